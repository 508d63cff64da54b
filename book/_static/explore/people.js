/* People: test users of the shipped model, what it wrote for each, and the list behind it. Put something else before the
 * marker and see films move. people-data.js holds, behind every text, the target's place, its score and the softmax's
 * denominator, and the places of the films that are ever listed; rewards and advantages are computed here. */
"use strict";

(() => {
  const { number, text, line, rect, escape, round, rewardGroup } = explore;
  const { about, films, people } = explore.data.people;
  const TEN = 10, BELOW = TEN + 0.75; // where a film goes that leaves the ten

  /** R_d, R_c, R and advantages of a group.
   *
   * @param behind of each reasoning {greater, equal, score, total}: items scored above the target and the same as it,
   *   its own score, and the logarithm of the sum of all exponentiated scores
   */
  function rewardsOf(behind, k, beta) {
    const ranks = behind.map(({ greater, equal }) => [greater, equal]);
    return rewardGroup(ranks, behind.map(({ score, total }) => Math.exp(score - total)), k, beta);
  }

  // ---- what there is to show

  const GIVEN = {
    "skill taste": "a ready text on taste",
    "skill association": "a ready text on neighbours",
    "skill drift": "a ready text on change",
    "skill idle": "a ready text, idle words",
    cheat: "the target's genres (a cheat)",
  };
  const GROUP = people[0].texts.map((_, g) => g);
  const OPTIONS = [
    ...GROUP.map((g) => [`own-${g}`, `their own reasoning ${g + 1}`]),
    ["none", "nothing"],
    ["other", "another person's reasoning"],
    ...Object.entries(GIVEN),
  ];
  const start = () => ({ person: 0, shown: "own-0", donor: 1, against: "none", from: null, turned: 1 });

  const keyOf = ({ shown, donor }) => (shown === "other" ? `other-${donor}` : shown);
  const isOwn = (key) => key.startsWith("own-");
  const filmName = (film) => (films[film][1] ? `${films[film][0]} (${films[film][1]})` : films[film][0]);
  const place = ({ greater, equal }) => (equal > 1 ? `${greater + 1} to ${greater + equal}` : `${greater + 1}`);

  function nameOf(key) {
    if (isOwn(key)) return `their own reasoning ${Number(key.slice(4)) + 1}`;
    if (key.startsWith("other-")) return `person ${Number(key.slice(6)) + 1}'s reasoning`;
    return key === "none" ? "nothing" : GIVEN[key];
  }

  function textOf(person, key) {
    if (key === "none") return "";
    const words = isOwn(key) ? people[person].texts[key.slice(4)]
      : key.startsWith("other-") ? people[key.slice(6)].texts[0] : people[person].given[key];
    return words.replace(/\s+/g, " ");
  }

  /** Place of each film that is ever listed, by film. */
  const placesOf = (person, key) => new Map(people[person].films.map((film, i) => [film, people[person].behind[key].places[i]]));

  function follow(state) {
    const person = people[state.person], key = keyOf(state);
    const group = GROUP.map((g) => person.behind[`own-${g}`]);
    const now = placesOf(state.person, key), base = placesOf(state.person, state.against);
    const inTen = (places) => [...places.keys()].filter((film) => places.get(film) <= TEN);
    const [ten, before] = [now, base].map((places) => inTen(places).sort((a, b) => places.get(a) - places.get(b)));
    return {
      person, key, now, base, ten, behind: person.behind[key], own: rewardsOf(group, about.k, about.beta),
      alone: rewardsOf([person.behind[key]], about.k, about.beta),
      gone: before.filter((film) => now.get(film) > TEN), kept: ten.filter((film) => base.get(film) <= TEN).length,
    };
  }

  /** Change a state, and let films glide from where they were. */
  function turn(state, api, changed) {
    state.from = placesOf(state.person, keyOf(state));
    Object.assign(state, changed, { turned: 0 });
    if (state.donor === state.person) state.donor = (state.person + 1) % people.length;
    api.every(30, () => (state.turned = Math.min(1, state.turned + 0.05)) < 1);
  }

  // ---- the picture

  const LINE = 18, STEP = 33;
  const wide = 6.9; // pixels of a letter, rather more than less

  function wrap(words, width) {
    const lines = [""];
    for (const word of words.split(" ")) {
      const longer = `${lines.at(-1)} ${word}`.trim();
      if (longer.length * wide <= width) lines[lines.length - 1] = longer;
      else lines.push(word);
    }
    return lines;
  }

  /** A film's name within a width: a long title loses words in its midst, where films of a series are alike. */
  function cut(film, width) {
    const [title, year] = films[film], end = year ? ` (${year})` : "", room = Math.floor(width / wide) - end.length;
    if (title.length <= room) return title + end;
    const words = title.split(" "), head = words.splice(0, 2).join(" ");
    let tail = "";
    while (words.length && head.length + tail.length + words.at(-1).length + 3 <= room) tail = ` ${words.pop()}${tail}`;
    return (tail ? `${head} …${tail}` : `${title.slice(0, Math.max(1, room - 1)).trimEnd()}…`) + end;
  }

  function draw(state, width) {
    const found = follow(state), beside = width >= 600, left = beside ? Math.min(280, width * 0.42) : width;
    const about_ = drawPerson(state, found, left), x = beside ? left + 26 : 0, y = beside ? 0 : about_.height + 14;
    const list = drawList(state, found, x, y, beside ? width - x : width);
    const press = (now, px, py, api) => {
      const g = Math.floor((px / left) * GROUP.length);
      if (px <= left && py >= about_.bars && py <= about_.height && GROUP.includes(g)) turn(now, api, { shown: `own-${g}` });
    };
    return { svg: about_.svg + list.svg, height: Math.max(about_.height, list.bottom) + 4, alt: describe(state, found), press };
  }

  /** Who it is, what came next, what stands before the marker, and what their four reasonings earned. */
  function drawPerson(state, { person, key, own }, width) {
    let y = 12, svg = text(0, y, `Person ${state.person + 1}`, 'class="strong"');
    const last = person.history.length, all = person.seen === last;
    svg += text(width, y, all ? `has seen ${last} of ${about.catalogue} films:` : `the last ${last} of ${person.seen} films:`, 'class="small muted end"');
    person.history.forEach(([film, rating, ago]) => {
      y += 24;
      svg += text(0, y, cut(film, width - 44)) + text(width, y, `★ ${rating}`, 'class="end"');
      svg += text(0, (y += 15), `${ago} · ${films[film][2].join(", ")}`.slice(0, Math.floor(width / 6.4)), 'class="small muted"');
    });
    svg += rect(0, (y += 12), width, 44, "green faint", 'rx="5"');
    svg += text(8, y + 18, `◆ ${cut(person.target, width - 34)}`, 'class="strong"');
    svg += text(8, y + 35, "seen next, and liked: the target", 'class="small muted"');
    svg += text(0, (y += 66), `Before the marker: ${nameOf(key)}`, 'class="small muted"');
    const lines = key === "none" ? ["(the marker follows the prompt at once)"] : wrap(`“${textOf(state.person, key)}”`, width - 26);
    const box = Math.max(4, lines.length) * LINE + 12;
    svg += rect(0, (y += 8), width, box, "panel", 'rx="5"') + rect(0, y, 4, box, isOwn(key) ? "blue" : "pink");
    lines.forEach((words, i) => (svg += text(14, y + 20 + i * LINE, words, key === "none" ? 'class="muted"' : "")));
    svg += text(0, (y += box + 24), "Advantage (GRPO) of their own reasonings", 'class="small muted"');
    const bars = y + 4, zero = y + 36, cell = width / GROUP.length;
    GROUP.forEach((g) => {
      const advantage = own.grpo[g], reach = Math.abs(advantage) * 18, middle = (g + 0.5) * cell, chosen = key === `own-${g}`;
      svg += rect(g * cell + 2, bars, cell - 4, 82, "panel", 'rx="5" style="cursor:pointer"');
      if (chosen) svg += rect(g * cell + 2, bars, cell - 4, 82, "curve s-blue", 'rx="5"');
      svg += rect(middle - 9, advantage < 0 ? zero : zero - reach, 18, reach, advantage < 0 ? "orange" : "blue", 'pointer-events="none"');
      svg += line(middle - 16, zero, middle + 16, zero, "axis");
      svg += text(middle, zero + 42, `${g + 1}: ${number(advantage, 2, true)}`, `class="small middle ${chosen ? "strong" : ""}"`);
    });
    return { svg, bars, height: bars + 84 };
  }

  /** The top ten, and from where in the list it is held against each film comes. */
  function drawList(state, { now, base, person }, x, y, width) {
    const top = y + 40, gutter = Math.min(84, width * 0.2), titles = x + gutter + 34, right = x + width;
    const eased = state.turned ** 2 * (3 - 2 * state.turned), middle = (at) => top + (at - 0.5) * STEP;
    const spot = (film, places) => {
      const at = places.get(film) ?? TEN + 1;
      return at <= TEN ? [middle(at), 1] : [middle(BELOW), 0];
    };
    const glide = (film) => {
      const [[y0, seen0], [y1, seen1]] = [spot(film, state.from ?? now), spot(film, now)];
      return [y0 + (y1 - y0) * eased, seen0 + (seen1 - seen0) * eased];
    };
    let svg = text(x, y + 12, `Top ten behind ${nameOf(keyOf(state))}`, 'class="strong"');
    svg += text(x, y + 29, `Lines: from the list behind ${nameOf(state.against)}.`, 'class="small muted"');
    for (let at = 1; at <= TEN; at += 1) svg += text(x + 20, middle(at) + 4.5, at, 'class="small muted end"');
    svg += text(x + 27, middle(BELOW) + 4.5, `${TEN + 1}+`, 'class="small muted end"');
    const films_ = [...now.keys()].map((film) => ({ film, at: glide(film), p: base.get(film), q: now.get(film) }));
    for (const { film, at: [goal, seen], p, q } of films_) {
      if (p > TEN && seen < 0.02) continue;
      const style = film === person.target ? "s-green" : q < p ? "s-blue" : q > p ? "s-orange" : "s-grey";
      const [from] = spot(film, base), [a, b] = [x + 30, x + gutter], half = (a + b) / 2, fades = q > TEN || p > TEN;
      const path = `M${a} ${round(from)}C${round(half)} ${round(from)} ${round(half)} ${round(goal)} ${round(b)} ${round(goal)}`;
      svg += `<path d="${path}" class="curve ${style}${fades ? " dash" : ""}" style="stroke-opacity:${round(q > TEN ? 0.55 : Math.max(seen, 0.2))}"/>`;
    }
    for (const { film, at: [goal, seen], p, q } of films_) {
      if (seen < 0.02) continue;
      const wanted = film === person.target, row = `<g style="opacity:${round(seen)}">`;
      svg += row + (wanted ? rect(x + gutter + 4, goal - STEP / 2 + 2, width - gutter - 4, STEP - 4, "green faint", 'rx="4"') : "");
      svg += text(x + gutter + 26, goal + 4.5, q <= TEN ? q : "", 'class="end strong"');
      svg += text(titles, goal + 4.5, (wanted ? "◆ " : "") + cut(film, right - titles - 42 - (wanted ? 30 : 0)), wanted ? 'class="strong"' : "");
      svg += text(right - 4, goal + 4.5, moved(p, q), `class="small end ${p === q ? "muted" : q < p ? "blue" : "orange"}"`) + "</g>";
    }
    const bottom = middle(BELOW) + 26, q = now.get(person.target), p = base.get(person.target);
    svg += line(x, bottom - 14, right, bottom - 14, "grid");
    if (q > TEN) {
      svg += rect(x, bottom - 6, width, 32, "green faint", 'rx="4"') + text(x + gutter + 26, bottom + 14.5, q, 'class="end strong"');
      svg += text(titles, bottom + 14.5, `◆ ${cut(person.target, right - titles - 72)}`, 'class="strong"');
      svg += text(right - 4, bottom + 14.5, moved(p, q), 'class="small end"');
    } else svg += text(x, bottom + 14.5, "◆ The target is among the ten.", 'class="muted"');
    return { svg, bottom: bottom + 28 };
  }

  /** Places up or down. */
  const moved = (before, now) => (now === before ? "=" : now < before ? `▲ ${before - now}` : `▼ ${now - before}`);

  // ---- words

  function say(state) {
    const { person, key, behind, alone, kept, now, base } = follow(state);
    const p = base.get(person.target), q = now.get(person.target);
    const went = key === state.against ? "" : `, and behind ${nameOf(state.against)} at ${p}`;
    const earned = `R_d ${number(alone.ranking[0], 3)}, R_c ${number(alone.similarity[0], 3)}, R ${number(alone.fused[0], 3)}`;
    const words = `Behind ${nameOf(key)} the film that person ${state.person + 1} saw next, ${filmName(person.target)}, stands at place ${place(behind)}${went}: ${earned}.`;
    if (key === state.against) return `${words} This is the list that others are held against.`;
    return `${words} Of the ten films behind ${nameOf(state.against)}, ${kept === TEN ? "all" : kept} ${kept === 1 ? "stays" : "stay"}.`;
  }

  function describe(state, { person, key, ten }) {
    const history = person.history.map(([film, rating]) => `${filmName(film)}, ${rating} of 5`).join("; ");
    const listed = ten.map((film, i) => `${i + 1} ${filmName(film)}`).join("; ");
    const words = textOf(state.person, key);
    return `Person ${state.person + 1} has seen, last: ${history}. Before the marker stands ${nameOf(key)}${words && `, “${words}”`}. Top ten: ${listed}. ${say(state)}`.replace(/_([a-z])\b/g, "$1");
  }

  function details(state) {
    const { person, key, own, alone, behind, gone, now } = follow(state);
    const row = (name, words, at, rewards, g, advantages, chosen) => {
      const cells = [place(at), ...["ranking", "similarity", "fused"].map((part) => number(rewards[part][g], 3)), ...advantages];
      const mark = chosen ? ' class="chosen"' : "";
      return `<tr${mark}><td>${name}</td>${cells.map((cell) => `<td>${escape(cell)}</td>`).join("")}</tr><tr${mark}><td class="words" colspan="7">${escape(words)}</td></tr>`;
    };
    const rows = GROUP.map((g) => {
      const words = `“${textOf(state.person, `own-${g}`)}”${person.closed[g] ? "" : " (not closed by the model)"}`;
      const advantages = [number(own.grpo[g], 2, true), number(own.rloo[g], 3, true)];
      return row(g + 1, words, person.behind[`own-${g}`], own, g, advantages, key === `own-${g}`);
    });
    if (!isOwn(key)) {
      const words = textOf(state.person, key);
      rows.push(row("now", `${nameOf(key)}${words && `: “${words}”`}`, behind, alone, 0, ["", ""], true));
    }
    const heads = ["", "place", "R<sub>d</sub>", "R<sub>c</sub>", "R", "A, GRPO", "A, RLOO"];
    const head = heads.map((words) => `<th scope="col">${words || "no."}</th>`).join("");
    const left = gone.map((film) => `${escape(filmName(film))}, now ${now.get(film)}`).join("; ");
    const table = `<table class="pairs"><thead><tr>${head}</tr></thead><tbody>${rows.join("")}</tbody></table>`;
    return table + (left && `<p class="explore-gone">No longer among the ten: ${left}.</p>`);
  }

  const numbered = people.map((person, i) => [i, `${i + 1}: last saw ${films[person.history.at(-1)[0]][0]}`]);

  explore.add("people", {
    title: "People",
    start,
    controls: [
      { kind: "list", key: "person", label: "Person", options: numbered, set: (state, person, api) => turn(state, api, { person }) },
      { kind: "list", key: "shown", label: "Before the marker", options: OPTIONS, set: (state, shown, api) => turn(state, api, { shown }) },
      {
        kind: "list", key: "donor", label: "Whose", options: people.map((_, i) => [i, `person ${i + 1}'s`]),
        set: (state, donor, api) => turn(state, api, { donor }), hidden: (state) => state.shown !== "other",
      },
      {
        kind: "choice", key: "against", label: "Held against", options: [["none", "nothing"], ["own-0", "own reasoning 1"]],
        set: (state, against) => Object.assign(state, { against, turned: 1 }),
      },
    ],
    draw,
    say,
    details,
    functions: { rewardsOf, follow, start, placesOf },
  });
})();
