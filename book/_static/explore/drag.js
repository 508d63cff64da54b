/* Drag the thought: the toy world's plane. A reasoning's end state moves, and cosines, ranks, rewards and advantages
 * follow. The functions do what rrec_lib.evaluation.scoring and .metrics, rrec_lib.recpo.rewards and .advantages do. */
"use strict";

(() => {
  const { number, text, line, rect, clamp, escape, expectedNdcg, rewardGroup } = explore;

  const ITEMS = ["space opera", "robot noir", "heist", "courtroom", "romance", "musical"];
  const ITEM_STATES = [[1, 0], [4, 3], [3, 4], [0, 1], [-3, 4], [-1, 0]];
  const USER_STATES = [[[1, 0], [0, 1]], [[3, 4], [-1, 0]], [[-3, 4], [0, 1]]];
  const MORE_STATES = [[-4, 3], [4, -3]]; // further reasonings
  const HISTORIES = [[0], [3], [5]];
  const TARGETS = [1, 2, 4];

  function unit(vector) {
    const length = Math.max(Math.hypot(...vector), 1e-12); // a zero vector stays zero
    return vector.map((part) => part / length);
  }

  /** Cosine over a temperature with every item; −∞ for what was seen, unless it is the target. */
  function scoreItems(state, items, temperature, seen, target) {
    const own = unit(state);
    return items.map((item, row) => {
      if (seen.includes(row) && row !== target) return -Infinity;
      const other = unit(item);
      const score = own.reduce((sum, part, axis) => sum + part * other[axis], 0) / temperature;
      return Math.round(score * 1e9) / 1e9; // what differs by rounding alone is a tie
    });
  }

  /** [items scored above the target, items scored the same, itself included]; [N, 0] where it is masked. */
  function targetRank(scores, target) {
    if (scores[target] === -Infinity) return [scores.length, 0];
    const count = (test) => scores.filter(test).length;
    return [count((score) => score > scores[target]), count((score) => score === scores[target])];
  }

  /** R_d: NDCG@k. */
  const rankingReward = (scores, target, k) => expectedNdcg(...targetRank(scores, target), k);

  /** R_c: the target's probability in a softmax over all items. */
  function similarityReward(scores, target) {
    if (scores[target] === -Infinity) return 0;
    const top = Math.max(...scores);
    const weights = scores.map((score) => Math.exp(score - top));
    return weights[target] / weights.reduce((sum, weight) => sum + weight, 0);
  }

  /** Everything that follows from a group's states. */
  function group(states, items, seen, target, temperature, k, beta) {
    const scores = states.map((state) => scoreItems(state, items, temperature, seen, target));
    const ranks = scores.map((row) => targetRank(row, target));
    const similarity = scores.map((row) => similarityReward(row, target));
    return { scores, ranks, ...rewardGroup(ranks, similarity, k, beta) };
  }

  // ---- the page

  const statesOf = (user) => [...USER_STATES[user], ...MORE_STATES].map((state) => [...state]);
  const start = () => ({ user: 0, size: 3, states: statesOf(0), chosen: 0, tau: 1, beta: 0.05, k: 6 });
  const SHAPES = ["blue", "orange", "pink", "green"];

  function follow(state) {
    const { user, size, states, tau, k, beta } = state;
    return group(states.slice(0, size), ITEM_STATES, HISTORIES[user], TARGETS[user], tau, k, beta);
  }

  const place = ([greater, equal]) => (equal > 1 ? `${greater + 1} to ${greater + equal}` : `${greater + 1}`);

  function draw(state, width) {
    const found = follow(state), { user, chosen } = state;
    const beside = width >= 640, side = Math.min(400, beside ? width * 0.5 : width);
    const listX = beside ? side + 28 : 0, listY = beside ? 8 : side + 14;
    const listWidth = beside ? width - listX : width, step = beside ? (side - 40) / 6 : 34;
    const scale = side / 11.4, middle = [side / 2, side * 0.56];
    const x = (value) => middle[0] + value * scale, y = (value) => middle[1] - value * scale;
    let svg = rect(0, 0, side, side, "panel", 'rx="6"');
    for (let tick = -5; tick <= 5; tick += 1) {
      svg += line(x(tick), 0, x(tick), side, "grid");
      if (y(tick) > 0 && y(tick) < side) svg += line(0, y(tick), side, y(tick), "grid");
    }
    svg += line(0, y(0), side, y(0), "axis") + line(x(0), 0, x(0), side, "axis");
    ITEMS.forEach((name, row) => {
      const [a, b] = ITEM_STATES[row], wanted = row === TARGETS[user], seen = HISTORIES[user].includes(row);
      const style = wanted ? "s-green" : "s-grey";
      svg += line(x(0), y(0), x(a), y(b), `curve ${style}${seen ? " dash" : ""}`);
      svg += wanted
        ? `<path d="M${x(a)} ${y(b) - 9}l9 9l-9 9l-9 -9z" class="green"/>`
        : rect(x(a) - 5, y(b) - 5, 10, 10, seen ? "ground axis" : "grey");
      const [dx, dy, anchor] = LABELS[row];
      svg += text(x(a) + dx, y(b) + dy, name, `class="small ${anchor} ${wanted ? "strong" : ""}" paint-order="stroke" stroke-width="4" stroke-linejoin="round" style="stroke:var(--ex-panel)"`);
    });
    svg += text(10, side - 12, "◆ target   □ seen", 'class="small muted"');
    const handles = state.states.slice(0, state.size).map(([a, b], g) => ({ g, a, b }));
    for (const { g, a, b } of [...handles.filter((h) => h.g !== chosen), handles[chosen]]) {
      svg += line(x(0), y(0), x(a), y(b), `curve s-${SHAPES[g]}`);
      svg += `<circle cx="${x(a)}" cy="${y(b)}" r="${g === chosen ? 14 : 11}" class="${SHAPES[g]}" style="stroke:var(--ex-panel);stroke-width:2"/>`;
      svg += text(x(a), y(b) + 4.5, g + 1, 'class="middle strong" style="fill:var(--ex-ground)"');
    }
    svg += list(found, state, listX, listY, listWidth, step);
    const move = (g) => (now, px, py) => {
      const snap = (value) => Math.round(value * 4) / 4; // quarters, so that ties can be met
      now.states[g] = [
        snap(clamp((px - middle[0]) / scale, -5.25, 5.25)),
        snap(clamp((middle[1] - py) / scale, (middle[1] - side) / scale + 0.5, middle[1] / scale - 0.5)),
      ];
    };
    return {
      svg,
      height: beside ? side : listY + 6 * step + 30,
      alt: sentence(state, found),
      handles: handles.map(({ g, a, b }) => ({
        id: `state-${g}`,
        x: x(a),
        y: y(b),
        label: `End state of reasoning ${g + 1}, at ${number(a)}, ${number(b)}; arrow keys move it`,
        grab: (now) => (now.chosen = g),
        move: move(g),
        nudge: (now, dx, dy) => move(g)(now, x(now.states[g][0] + dx / 4), y(now.states[g][1] + dy / 4)),
      })),
    };
  }

  const LABELS = [[10, 18, ""], [0, 24, "middle"], [2, -12, "middle"], [0, -10, "middle"], [0, -12, "middle"], [-4, 18, "end"]];

  /** The six items in the order of the chosen reasoning, with their cosines. */
  function list(found, state, left, top, width, step) {
    const scores = found.scores[state.chosen], target = TARGETS[state.user], tau = state.tau;
    const order = ITEMS.map((_, row) => row).sort((a, b) => scores[b] - scores[a] || a - b || 0);
    if (scores.includes(-Infinity)) order.sort((a, b) => (scores[a] === -Infinity) - (scores[b] === -Infinity));
    const nameX = left + 52, barX = left + 146, numberX = left + width, zero = barX + (numberX - 58 - barX) / 2;
    let svg = text(left, top + 12, "place", 'class="muted small"');
    svg += text(nameX, top + 12, `list of reasoning ${state.chosen + 1}`, 'class="muted small"');
    svg += text(numberX, top + 12, "cosine", 'class="muted small end"');
    svg += line(zero, top + 20, zero, top + 22 + step * ITEMS.length, "grid");
    order.forEach((row, index) => {
      const at = top + 26 + step * index, middle = at + step / 2, masked = scores[row] === -Infinity, cosine = scores[row] * tau;
      const [greater, equal] = targetRank(scores, row);
      if (row === target) svg += rect(left, at + 2, width, step - 4, "green faint", 'rx="4"');
      const words = masked ? "seen" : equal > 1 ? `${greater + 1}–${greater + equal} =` : `${greater + 1}`;
      svg += text(left + 6, middle + 4.5, words, `class="${masked ? "muted" : equal > 1 ? "strong" : ""}"`);
      svg += text(nameX, middle + 4.5, ITEMS[row], `class="${masked ? "muted" : row === target ? "strong" : ""}"`);
      if (masked) return;
      const reach = (numberX - 58 - barX) / 2;
      svg += rect(zero + Math.min(0, cosine) * reach, middle - 7, Math.abs(cosine) * reach, 14, row === target ? "green" : "grey half");
      svg += text(numberX - 4, middle + 4.5, number(cosine, 3), 'class="end"');
    });
    return svg;
  }

  function sentence(state, found) {
    const g = state.chosen, target = ITEMS[TARGETS[state.user]], [, equal] = found.ranks[g];
    const where = equal > 1 ? `ties for places ${place(found.ranks[g])}` : `stands at place ${place(found.ranks[g])}`;
    const alike = found.fused.every((reward) => reward === found.fused[0]);
    const best = found.fused.indexOf(Math.max(...found.fused));
    return (
      `Reasoning ${g + 1} ends at (${number(state.states[g][0])}, ${number(state.states[g][1])}). ` +
      `There ${target}, the target, ${where}: R_d ${number(found.ranking[g], 3)}, R_c ${number(found.similarity[g], 3)}, ` +
      `R ${number(found.fused[g], 3)}. ` +
      (alike ? "All rewards are equal, so the group teaches nothing." : `Reasoning ${best + 1} has the highest reward of the group.`)
    );
  }

  function details(state) {
    const found = follow(state);
    const rows = found.fused.map((reward, g) => {
      const cells = [place(found.ranks[g]), number(found.ranking[g], 3), number(found.similarity[g], 3),
        number(reward, 3), number(found.grpo[g], 2, true), number(found.rloo[g], 2, true)];
      const chosen = g === state.chosen ? ' class="chosen"' : "";
      return `<tr${chosen}><td>${g + 1}</td>${cells.map((cell) => `<td>${escape(cell)}</td>`).join("")}</tr>`;
    });
    const heads = ["", "place", "R<sub>d</sub>", "R<sub>c</sub>", "R", "A, GRPO", "A, RLOO"];
    const head = heads.map((words) => `<th scope="col">${words || "no."}</th>`).join("");
    return `<table><thead><tr>${head}</tr></thead><tbody>${rows.join("")}</tbody></table>`;
  }

  explore.add("drag", {
    title: "Drag the thought",
    start,
    controls: [
      {
        kind: "choice", key: "user", label: "User", options: [[0, "1"], [1, "2"], [2, "3"]],
        set: (state, user) => Object.assign(state, { user, states: statesOf(user), chosen: 0 }),
      },
      {
        kind: "choice", key: "size", label: "Reasonings", options: [[2, "2"], [3, "3"], [4, "4"]],
        set: (state, size) => Object.assign(state, { size, chosen: Math.min(state.chosen, size - 1) }),
      },
      { kind: "range", key: "tau", label: "τ, temperature", min: 0.05, max: 2, step: 0.05 },
      { kind: "range", key: "beta", label: "β, weight of R_c", min: 0, max: 1, step: 0.05 },
      { kind: "range", key: "k", label: "k, cutoff of R_d", min: 1, max: 6, step: 1 },
    ],
    draw,
    say: (state) => sentence(state, follow(state)),
    details,
    functions: { rankingReward, similarityReward, group, WORLD: { ITEMS, ITEM_STATES, USER_STATES, HISTORIES, TARGETS } },
  });
})();
