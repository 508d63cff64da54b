/* One axis too many: the gradient on every token of a batch, as the paper has it and as the official code's broadcast
 * makes it; rrec_lib.recpo.losses.token_loss and rrec_lib.book.official. */
"use strict";

(() => {
  const { number, text, line, rect, grpoAdvantages, rlooAdvantages } = explore;

  const LENGTHS = [4, 3, 2, 3, 3, 2]; // completion tokens, as in the notebook
  const REWARDS = [0.969, 0.418, 0.965, 0.48, 0.967, 0.548]; // the toy world, β = 0.05
  const TOKENS = 4, GROUP = 2;

  /** The official code's "leave one out": R·(1 + 1/G) − mean. */
  function leaveOneOutAdvantages(rewards) {
    const mean = rewards.reduce((sum, reward) => sum + reward, 0) / rewards.length;
    return rewards.map((reward) => reward * (1 + 1 / rewards.length) - mean);
  }

  const RULES = { rloo: rlooAdvantages, grpo: (rewards) => grpoAdvantages(rewards), left: leaveOneOutAdvantages };

  /** Advantages of consecutive groups of two, or of another size. */
  function inGroups(rewards, rule, size = GROUP) {
    const groups = [];
    for (let first = 0; first < rewards.length; first += size) groups.push(...RULES[rule](rewards.slice(first, first + size)));
    return groups;
  }

  /** Gradient of the loss on each token's log-probability, on policy; 0 on padding.
   *
   * The paper: −A_i / n, n completion tokens in the mini-batch. One axis too many: every token meets all M advantages
   * of its mini-batch, −ΣA / (M·n).
   */
  function tokenGradient(advantages, lengths, tokens, extraAxis, size) {
    return advantages.map((own, row) => {
      const first = row - (row % size);
      const others = advantages.slice(first, first + size), n = sum(lengths.slice(first, first + size));
      const weight = extraAxis ? sum(others) / others.length : own;
      return Array.from({ length: tokens }, (_, t) => (t < lengths[row] ? -weight / n : 0));
    });
  }

  const sum = (values) => values.reduce((total, value) => total + value, 0);

  // ---- the page

  const CELLS = LENGTHS.flatMap((length, row) => Array.from({ length }, (_, t) => [row, t]));
  const start = () => ({ rewards: [...REWARDS], rule: "rloo", size: 6, extra: false, turned: CELLS.length, row: 0, token: 0 });

  /** Both gradients, and the one that a cell shows: cells turn one after the other when the axis is added. */
  function follow(state) {
    const advantages = inGroups(state.rewards, state.rule);
    const both = [false, true].map((extra) => tokenGradient(advantages, LENGTHS, TOKENS, extra, state.size));
    const turned = (row, t) => CELLS.findIndex(([r, c]) => r === row && c === t) < state.turned;
    const extraAt = (row, t) => (turned(row, t) ? state.extra : !state.extra);
    const shown = both[0].map((line, row) => line.map((_, t) => both[Number(extraAt(row, t))][row][t]));
    return { advantages, shown, extraAt, most: Math.max(1e-9, ...both[0].flat().map(Math.abs)) };
  }

  function geometry(width) {
    const left = width < 520 ? 96 : 246, top = 34, high = 46;
    return { left, top, high, wide: Math.min(110, (width - left) / TOKENS) };
  }

  function draw(state, width) {
    const { advantages, shown, extraAt, most } = follow(state);
    const { left, top, high, wide } = geometry(width), narrow = width < 520;
    let svg = text(0, 18, narrow ? "reasoning, A" : "reasoning and its advantage A", 'class="small muted"');
    for (let t = 0; t < TOKENS; t += 1) svg += text(left + (t + 0.5) * wide, 18, `token ${t + 1}`, 'class="small muted middle"');
    const reach = 46, zero = left - 58, largest = Math.max(1e-9, ...advantages.map(Math.abs));
    if (!narrow) svg += line(zero, top, zero, top + 6 * high, "grid");
    advantages.forEach((advantage, row) => {
      const y = top + row * high, user = Math.floor(row / GROUP) + 1, own = (row % GROUP) + 1;
      const weight = row === state.row ? 'class="strong"' : "";
      svg += text(0, y + (narrow ? 19 : 27), `user ${user}, no. ${own}`, weight);
      if (narrow) svg += text(0, y + 37, `A ${number(advantage, 2, true)}`, 'class="small muted"');
      else {
        const size = (Math.abs(advantage) / largest) * reach;
        svg += rect(advantage < 0 ? zero - size : zero, y + 16, size, 14, advantage < 0 ? "orange" : "blue");
        svg += text(zero - reach - 8, y + 27, number(advantage, 2, true), 'class="small end"');
      }
      for (let t = 0; t < TOKENS; t += 1) {
        const x = left + t * wide, value = shown[row][t];
        if (t >= LENGTHS[row]) {
          svg += text(x + wide / 2, y + 28, "–", 'class="muted middle"');
          continue;
        }
        const size = Math.min(1, Math.abs(value) / most), flat = number(value, 3) === "0.000";
        svg += rect(x + 2, y + 2, wide - 4, high - 4, "panel", 'rx="4"');
        if (!flat) {
          const style = `rx="4" style="fill-opacity:${number(0.16 + 0.34 * size, 2)}"`;
          svg += rect(x + 2, y + 2, wide - 4, high - 4, value < 0 ? "blue" : "orange", style);
        }
        svg += rect(x + 2.5, y + 2.5, wide - 5, high - 5, `${extraAt(row, t) ? "axis dash" : "grid"}`, 'rx="4" fill="none"');
        const arrow = flat || narrow ? "" : value < 0 ? "↑ " : "↓ ";
        svg += text(x + wide / 2, y + 28, arrow + number(value, 3, true), `class="middle ${flat ? "muted" : ""} ${wide < 80 ? "small" : ""}"`);
      }
    });
    for (let cut = state.size; cut < 6; cut += state.size) svg += line(0, top + cut * high, left + TOKENS * wide, top + cut * high, "axis s-text");
    const [cx, cy] = [left + state.token * wide, top + state.row * high];
    svg += rect(cx + 1.5, cy + 1.5, wide - 3, high - 3, "curve s-text", 'rx="5" fill="none"');
    const foot = top + 6 * high + 20;
    svg += text(0, foot, narrow ? "− more likely, + less likely, – no token" : "↑ made more likely, ↓ made less likely, – no token", 'class="small muted"');
    const choose = (now, x, y) => {
      const row = Math.floor((y - top) / high), token = Math.floor((x - left) / wide);
      if (row >= 0 && row < 6 && token >= -9 && token < TOKENS) select(now, row, Math.max(0, token));
    };
    return {
      svg,
      height: foot + 8,
      alt: sentence(state),
      press: choose,
      handles: [
        {
          id: "cell",
          x: cx + wide / 2,
          y: cy + high / 2,
          label: `Token ${state.token + 1} of user ${Math.floor(state.row / 2) + 1}'s reasoning ${(state.row % 2) + 1}; arrow keys choose another`,
          move: choose,
          nudge: (now, dx, dy) => select(now, now.row - dy, now.token + dx),
        },
      ],
    };
  }

  function select(state, row, token) {
    state.row = Math.min(5, Math.max(0, row));
    state.token = Math.min(LENGTHS[state.row] - 1, Math.max(0, token));
  }

  function sentence(state) {
    const { advantages, shown, extraAt } = follow(state), { row, token, size } = state;
    const first = row - (row % size), batch = advantages.slice(first, first + size);
    const n = sum(LENGTHS.slice(first, first + size)), value = number(shown[row][token], 3);
    const which = `Token ${token + 1} of user ${Math.floor(row / 2) + 1}'s reasoning ${(row % 2) + 1}: gradient `;
    if (!extraAt(row, token)) return `${which}−A / n = −(${number(advantages[row])}) / ${n} = ${value}. Its own advantage decides.`;
    const terms = batch.map((advantage, index) => number(advantage, 2, index > 0)).join(" ");
    const end = value === "0.000" ? "They cancel: nothing is left for any token." : "All tokens of the mini-batch get the same push.";
    return `${which}−(${terms}) / (${batch.length} · ${n}) = ${value}. ${end}`;
  }

  const name = (row) => `user ${Math.floor(row / GROUP) + 1}, no. ${(row % GROUP) + 1}`;

  explore.add("axis", {
    title: "One axis too many",
    start,
    controls: (state) => [
      {
        kind: "check", key: "extra", label: "one axis too many: advantages (R, 1, 1) meet ratios (R, T)",
        set: (now, extra, api) => {
          Object.assign(now, { extra, turned: 0 });
          api.every(110, () => (now.turned += 1) < CELLS.length);
        },
      },
      { kind: "choice", key: "rule", label: "Advantages", options: [["rloo", "RLOO"], ["grpo", "GRPO"], ["left", "the code's leave-one-out"]] },
      { kind: "choice", key: "size", label: "Mini-batch", options: [[6, "all 6"], [3, "3 + 3"], [2, "2 + 2 + 2"]] },
      {
        kind: "range", key: "reward", label: `R, ${name(state.row)}`, min: 0, max: 1, step: 0.001,
        get: (now) => now.rewards[now.row],
        set: (now, reward) => (now.rewards[now.row] = reward),
      },
    ],
    draw,
    say: sentence,
    functions: { leaveOneOutAdvantages, inGroups, tokenGradient, REWARDS, LENGTHS },
  });
})();
