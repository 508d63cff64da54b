/* The lab, live: the lab's trained model runs in the page. The upper half is rrec_lib/lab/model.py, function by
 * function, for one sequence and token by token; its weights come from lab-data.js, in half precision. A test compares
 * both on 200 users. The lower half is the page. */
"use strict";

(() => {
  const { number, text, line, rect, clamp, round } = explore;
  const data = explore.data.lab;

  // ---- rrec_lib/lab/world.py

  const BASE = 8, N_ITEMS = BASE * BASE, HISTORY = 4, REASONING = 2 * HISTORY;
  const CLASS_DIGIT = N_ITEMS, SLOT_DIGIT = CLASS_DIGIT + BASE, CHATTER = SLOT_DIGIT + BASE;
  const THINK = CHATTER + 2 * BASE, ITEM = THINK + 1, ANSWER = ITEM + 1;

  const { classes, slots } = data;
  const catalogue = Array.from({ length: BASE }, () => []);
  classes.forEach((own, item) => (catalogue[own][slots[item]] = item));

  function cumsum(values) {
    let sum = 0;
    return values.map((value) => (sum += value));
  }

  /** Running tallies, modulo 8: the class sum after each item, then the slot sum after each. */
  function writeTallies(history) {
    const sums = [classes, slots].map((attribute) => cumsum(history.map((item) => attribute[item])));
    return [...sums[0].map((sum) => CLASS_DIGIT + (sum % BASE)), ...sums[1].map((sum) => SLOT_DIGIT + (sum % BASE))];
  }

  function nextItem(history) {
    const tallies = writeTallies(history);
    return catalogue[tallies[HISTORY - 1] - CLASS_DIGIT][tallies[REASONING - 1] - SLOT_DIGIT];
  }

  function asText(token) {
    if (token >= THINK) return ["<think>", "<item>", "<answer>"][token - THINK];
    const [first, letter] = [[CHATTER, "w"], [SLOT_DIGIT, "s"], [CLASS_DIGIT, "c"], [0, "#"]].find(([first]) => token >= first);
    return letter + (token - first);
  }

  // ---- rrec_lib/lab/model.py

  /** A number from the 16 bits of half precision: sign, five of exponent, ten of fraction. */
  function half(bits) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023, sign = bits >> 15 ? -1 : 1;
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
  }

  const DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

  /** The weights by their PyTorch names; a matrix is the list of its rows. Five digits of base 85 hold two numbers. */
  function readWeights({ shapes, weights }) {
    const digits = new Uint8Array(128), numbers = Float32Array.from({ length: 2 ** 16 }, (_, bits) => half(bits));
    [...DIGITS].forEach((letter, digit) => (digits[letter.charCodeAt(0)] = digit));
    const swap = (bits) => numbers[(bits >> 8) | ((bits & 255) << 8)];
    let at = 0;
    const take = (length) => {
      const row = new Float32Array(length);
      for (let i = 0; i < length; i += 2) {
        let pair = 0;
        for (const end = at + 5; at < end; at += 1) pair = 85 * pair + digits[weights.charCodeAt(at)];
        row[i] = swap(Math.floor(pair / 2 ** 16));
        row[i + 1] = swap(pair % 2 ** 16);
      }
      return row;
    };
    const rows = ([count, width]) => Array.from({ length: count }, () => take(width));
    return Object.fromEntries(Object.entries(shapes).map(([name, shape]) => [name, shape[1] ? rows(shape) : take(shape[0])]));
  }

  const model = readWeights(data);
  const LAYERS = Object.keys(model).filter((name) => name.endsWith("qkv.weight")).length;
  const WIDTH = model["norm.weight"].length, SIZE = WIDTH / data.heads; // of a head

  function dot(a, b) {
    let sum = 0;
    for (let i = 0; i < a.length; i += 1) sum += a[i] * b[i];
    return sum;
  }

  const add = (x, y) => x.map((value, i) => value + y[i]);

  function linear(x, name) {
    const weight = model[`${name}.weight`], bias = model[`${name}.bias`], y = new Float32Array(weight.length);
    for (let row = 0; row < y.length; row += 1) y[row] = dot(weight[row], x) + (bias ? bias[row] : 0);
    return y;
  }

  function layerNorm(x, name) {
    const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
    const variance = x.reduce((sum, value) => sum + (value - mean) ** 2, 0) / x.length;
    const weight = model[`${name}.weight`], bias = model[`${name}.bias`];
    return x.map((value, i) => ((value - mean) / Math.sqrt(variance + 1e-5)) * weight[i] + bias[i]);
  }

  /** x Φ(x), with Φ to 1e-7: formula 7.1.26 of Abramowitz and Stegun. */
  function gelu(x) {
    const z = Math.abs(x) / Math.SQRT2, t = 1 / (1 + 0.3275911 * z);
    const series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    const upper = 0.5 * series * Math.exp(-z * z); // 1 − Φ(|x|)
    return x * (x < 0 ? upper : 1 - upper);
  }

  function softmax(values) {
    const top = Math.max(...values), weights = values.map((value) => Math.exp(value - top));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return weights.map((weight) => weight / sum);
  }

  /** Rotary positions: turn each pair by its place's angle; attention then sees distances. */
  function rotate(x, place) {
    const pairs = x.length / 2, y = x.slice();
    for (let i = 0; i < pairs; i += 1) {
      const angle = place * 100 ** -(i / pairs), cos = Math.cos(angle), sin = Math.sin(angle);
      y[i] = x[i] * cos - x[i + pairs] * sin;
      y[i + pairs] = x[i] * sin + x[i + pairs] * cos;
    }
    return y;
  }

  /** Pre-norm attention and a two-layer MLP. `past` holds the keys and values of the tokens before, and gets this one's. */
  function block(x, name, place, past) {
    const qkv = linear(layerNorm(x, `${name}.norms.0`), `${name}.qkv`), attended = new Float32Array(WIDTH);
    const cut = (part, head) => qkv.slice(part * WIDTH + head * SIZE, part * WIDTH + (head + 1) * SIZE);
    for (let head = 0; head < data.heads; head += 1) {
      const q = rotate(cut(0, head), place), { keys, values } = past[head];
      keys.push(rotate(cut(1, head), place));
      values.push(cut(2, head));
      const weights = softmax(keys.map((k) => dot(q, k) / Math.sqrt(SIZE))); // one token at a time sees all before it
      for (let i = 0; i < SIZE; i += 1) attended[head * SIZE + i] = weights.reduce((sum, weight, t) => sum + weight * values[t][i], 0);
    }
    x = add(x, linear(attended, `${name}.out`));
    return add(x, linear(linear(layerNorm(x, `${name}.norms.1`), `${name}.up`).map(gelu), `${name}.down`));
  }

  const newCache = () => Array.from({ length: LAYERS }, () => Array.from({ length: data.heads }, () => ({ keys: [], values: [] })));
  const copyCache = (cache) => cache.map((layer) => layer.map(({ keys, values }) => ({ keys: [...keys], values: [...values] })));

  /** Final hidden state of one more token behind a cache, which grows by it. */
  function forward(token, cache) {
    const place = cache[0][0].keys.length;
    let x = add(model["tokens.weight"][token], model["places.weight"][place]);
    cache.forEach((past, number) => (x = block(x, `blocks.${number}`, place, past)));
    return layerNorm(x, "norm");
  }

  /** Final hidden state behind the last of several tokens. */
  function read(tokens, cache) {
    let state;
    for (const token of tokens) state = forward(token, cache);
    return state;
  }

  /** lm_head: logits of the next token. */
  const lmLogits = (state) => model["tokens.weight"].map((row) => dot(row, state));

  /** The item table: the state behind `<item> v <answer>` of every item v. */
  function itemStates() {
    const start = newCache();
    forward(ITEM, start);
    return Array.from({ length: N_ITEMS }, (_, item) => read([item, ANSWER], copyCache(start)));
  }

  const unit = (x) => x.map((value) => value / Math.sqrt(dot(x, x)));

  /** rec_head: the cosine of the state behind the marker with each row of the item table. */
  let table;
  function scoreItems(state) {
    table ??= itemStates().map(unit);
    const user = unit(state);
    return table.map((row) => dot(row, user));
  }

  /** Write `count` tokens behind a history, the likeliest at each place, but for those written by hand.
   *
   * @returns {tokens, chances, scores}: what is written; at each place, one more included, the probabilities of all
   *   tokens there; and the score of each item with the marker now. With nothing written it follows the history at once.
   */
  function write(history, byHand, count) {
    const cache = newCache(), tokens = [], chances = [];
    read(history, cache);
    const atOnce = count ? null : forward(ANSWER, copyCache(cache));
    let state = forward(THINK, cache);
    for (let place = 0; place < REASONING; place += 1) {
      chances.push(softmax(lmLogits(state)));
      if (place === count) break;
      const likeliest = chances[place].indexOf(Math.max(...chances[place]));
      tokens.push(byHand[place] ?? likeliest);
      state = forward(tokens[place], cache);
    }
    return { tokens, chances, scores: scoreItems(atOnce ?? forward(ANSWER, cache)) };
  }

  // ---- the page

  const KINDS = [[CLASS_DIGIT, BASE], [SLOT_DIGIT, BASE], [CHATTER, 2 * BASE]]; // of tokens: first, how many
  const KEYS = [CLASS_DIGIT, SLOT_DIGIT, CHATTER, CHATTER + BASE]; // first token of each row of keys
  const none = () => Array(REASONING).fill(null);
  const start = () => ({ user: 0, history: [...data.users[0]], byHand: none(), mine: [], count: REASONING, chosen: 0, rest: "on" });
  const place = (item) => `class ${classes[item]}, slot ${slots[item]}`;

  let last = {};
  /** What follows from a state; a picture, its sentence and its table ask for the same. */
  function follow({ history, byHand, count }) {
    const key = JSON.stringify([history, byHand, count]);
    if (last.key === key) return last;
    const found = write(history, byHand, count), next = nextItem(history);
    const order = found.scores.map((_, item) => item).sort((a, b) => found.scores[b] - found.scores[a]);
    const named = catalogue[found.tokens[HISTORY - 1] - CLASS_DIGIT]?.[found.tokens[REASONING - 1] - SLOT_DIGIT];
    return (last = { key, ...found, order, next, named, right: writeTallies(history) });
  }

  /** Put a token in the place of the model's; what stands behind it stays, or is written again. */
  function overwrite(state, at, token) {
    const { tokens } = follow(state), stays = state.rest === "stays";
    state.byHand = state.byHand.map((own, i) => (i === at ? token : i < at ? own : stays ? tokens[i] ?? null : null));
    state.mine = [...state.mine.filter((i) => i < at || (stays && i > at)), at];
    state.count = Math.max(state.count, at + 1);
    state.chosen = at;
  }

  const put = (state, tokens) =>
    Object.assign(state, { byHand: tokens, mine: tokens.flatMap((token, i) => (token === null ? [] : [i])), count: REASONING });

  function measure(width) {
    const beside = width >= 620, side = Math.min(beside ? 330 : width, 380);
    const map = { x: 26, y: 34, cell: (side - 26) / BASE };
    const left = beside ? side + 26 : 0, top = beside ? 0 : map.y + 8 * map.cell + 58;
    const cell = Math.min((width - left) / BASE, 46);
    const height = Math.max(top + 150 + KEYS.length * 36, map.y + 8 * map.cell + 48) + 4;
    return { map, strip: { x: left, y: top + 40, cell }, keys: { x: left, y: top + 150, cell }, height };
  }

  const shade = (value) => `style="fill-opacity:${round(value)}"`;
  const short = (chance) => (chance < 0.005 ? "<.01" : number(chance, 2));

  function draw(state, width) {
    const found = follow(state), at = measure(width), handles = [];
    const svg = drawMap(state, found, at.map, handles) + drawStrip(state, found, at.strip, handles) + drawKeys(state, found, at.keys);
    const press = (now, x, y) => {
      const column = Math.floor((x - at.keys.x) / at.keys.cell), row = Math.floor((y - at.keys.y) / 36);
      if (KEYS[row] !== undefined && column >= 0 && column < BASE) overwrite(now, Math.min(now.chosen, found.tokens.length), KEYS[row] + column);
    };
    return { svg, height: at.height, alt: describe(state, found), handles, press };
  }

  /** The catalogue by class and slot, shaded by cosine, with the history's four items to drag. */
  function drawMap({ history }, { scores, order, next, named }, { x, y, cell }, handles) {
    const corner = (item) => [x + slots[item] * cell, y + classes[item] * cell];
    const frame = (item, inset, style) => {
      const [left, top] = corner(item);
      return rect(left + inset, top + inset, cell - 2 * inset, cell - 2 * inset, `curve ${style}`);
    };
    // four items may share a cell, so their handles are small
    let svg = `<style>.explore-handle[data-handle^="item-"] { width: 28px; height: 28px; margin: -14px 0 0 -14px; }</style>`;
    svg += text(x, 12, "64 items: class downwards, slot to the right", 'class="small muted"');
    for (let digit = 0; digit < BASE; digit += 1) {
      svg += text(x + (digit + 0.5) * cell, y - 7, `s${digit}`, 'class="small middle"');
      svg += text(x - 6, y + (digit + 0.5) * cell + 4, `c${digit}`, 'class="small end"');
    }
    scores.forEach((score, item) => {
      const [left, top] = corner(item);
      svg += rect(left, top, cell, cell, "blue", shade(0.65 * clamp(score, 0, 1))) + rect(left, top, cell, cell, "grid");
    });
    svg += frame(next, 2, "s-green") + (named === undefined ? "" : frame(named, 6, "s-orange dash"));
    order.slice(0, 5).forEach((item, rank) => {
      const [left, top] = corner(item);
      svg += text(left + cell / 2, top + cell / 2 + 5, rank + 1, 'class="middle strong"');
    });
    history.forEach((item, i) => {
      const [left, top] = corner(item), cx = left + cell * (i % 2 ? 0.76 : 0.24), cy = top + cell * (i < 2 ? 0.24 : 0.76);
      svg += `<circle cx="${round(cx)}" cy="${round(cy)}" r="8" style="fill:var(--ex-text)"/>`;
      svg += text(cx, cy + 4, i + 1, 'class="small middle strong" style="fill:var(--ex-ground)"');
      handles.push({
        id: `item-${i}`, x: cx, y: cy,
        label: `Item ${i + 1} of the history: #${item}, ${place(item)}; arrow keys move it`,
        move: (now, px, py) => {
          const [column, row] = [(px - x) / cell, (py - y) / cell].map((value) => clamp(Math.floor(value), 0, BASE - 1));
          now.history[i] = catalogue[row][column];
        },
        nudge: (now, dx, dy) => {
          const [row, column] = [classes[now.history[i]] - dy, slots[now.history[i]] + dx];
          now.history[i] = catalogue[(row + BASE) % BASE][(column + BASE) % BASE];
        },
      });
    });
    const legend = [
      [`<circle cx="7" cy="7" r="7" style="fill:var(--ex-text)"/>`, "history, 1st to 4th"],
      [rect(0, 0, 14, 14, "blue", shade(0.65)), "bluer: higher cosine"],
      [rect(1, 1, 12, 12, "curve s-green"), "next item by the sums"],
      [rect(1, 1, 12, 12, "curve s-orange dash"), "what the tallies name"],
    ];
    const down = y + 8 * cell + 10;
    legend.forEach(([mark, words], i) => {
      const left = i % 2 ? x + 4 * cell : 2, top = down + (i < 2 ? 0 : 20);
      svg += `<g transform="translate(${round(left)} ${round(top)})">${mark}</g>` + text(left + 20, top + 12, words, 'class="small"');
    });
    return svg;
  }

  /** The eight tokens, the probability of each where it stands, and whether it is the sum. */
  function drawStrip(state, { tokens, chances, right }, { x, y, cell }, handles) {
    let svg = text(x, y - 28, "What is written, how likely it was, is it the sum?", 'class="small muted"');
    svg += text(x, y - 8, "class so far", 'class="small"') + text(x + 4 * cell, y - 8, "slot so far", 'class="small"');
    for (let i = 0; i < REASONING; i += 1) {
      const left = x + i * cell + 1.5, width = cell - 3, middle = left + width / 2, own = state.mine.includes(i), token = tokens[i];
      svg += rect(left, y, width, 40, "panel") + rect(left, y, width, 40, "grid");
      if (i <= tokens.length) handles.push(tokenHandle(state, i, middle, y + 20));
      if (i === state.chosen) svg += rect(left, y, width, 40, "curve s-text");
      if (token === undefined) continue;
      const chance = chances[i][token], isRight = token === right[i];
      if (own) svg += rect(left + 2, y + 2, width - 4, 36, "orange faint");
      svg += rect(left + 2, y + 38 - 36 * chance, width - 4, 36 * chance, own ? "orange half" : "blue", own ? "" : shade(0.3));
      svg += text(middle, y + 25, asText(token), 'class="middle strong"');
      svg += text(middle, y + 56, short(chance), 'class="small middle"');
      svg += text(middle, y + 74, isRight ? "✓" : `✗ ${asText(right[i])}`, `class="small middle ${isRight ? "green" : "pink strong"}"`);
    }
    return svg;
  }

  function tokenHandle(state, i, x, y) {
    const { tokens, chances } = follow(state);
    const label = i < tokens.length ? `${asText(tokens[i])}, probability ${short(chances[i][tokens[i]])}` : "not written yet";
    return {
      id: `token-${i}`, x, y, label: `Token ${i + 1}: ${label}; arrow keys write another`,
      grab: (now) => (now.chosen = i),
      nudge: (now, dx, dy) => {
        const token = follow(now).tokens[i] ?? CLASS_DIGIT, kind = KINDS.findLastIndex(([first]) => token >= first);
        const [first, size] = KINDS[(kind + dx + KINDS.length) % KINDS.length];
        overwrite(now, i, first + ((token - KINDS[kind][0] + dy + size) % size));
      },
    };
  }

  /** Every word at the chosen place, shaded by its probability; a press writes it. */
  function drawKeys(state, { tokens, chances }, { x, y, cell }) {
    const at = Math.min(state.chosen, tokens.length, REASONING - 1);
    let svg = text(x, y - 10, `Token ${at + 1}: how likely is each? Press one to write it.`, 'class="small muted"');
    KEYS.forEach((first, row) => {
      for (let column = 0; column < BASE; column += 1) {
        const token = first + column, chance = chances[at][token], left = x + column * cell + 1.5, top = y + row * 36;
        svg += rect(left, top, cell - 3, 33, "panel") + rect(left, top, cell - 3, 33, "blue", shade(0.6 * chance));
        svg += rect(left, top, cell - 3, 33, tokens[at] === token ? "curve s-text" : "grid", 'rx="3"');
        svg += text(left + cell / 2 - 1.5, top + (chance < 0.005 ? 21 : 14), asText(token), 'class="small middle"');
        if (chance >= 0.005) svg += text(left + cell / 2 - 1.5, top + 28, number(chance, 2), 'class="small middle strong"');
      }
    });
    return svg;
  }

  /** What the list does: follow the sums, follow what is written, or neither. */
  function say(state) {
    const { tokens, right, order, next, named } = follow(state), first = order[0];
    const list = `The list begins with #${first} (${place(first)})`;
    const stands = `the next item by the sums, #${next}, stands at place ${order.indexOf(next) + 1}`;
    if (!tokens.length) return `Nothing is written, and the marker follows the history at once. ${list}; ${stands}.`;
    const count = tokens.length, good = tokens.filter((token, i) => token === right[i]).length;
    const sums = count === 1 ? `The token is ${good ? "right" : "wrong"}` : `${good === count ? "All" : `${good} of`} ${count} tokens ${good === 1 ? "is" : "are"} right`;
    const opening = `${sums}${state.mine.length ? `, with ${state.mine.length} put in by you` : ""}.`;
    if (tokens.length < REASONING) return `${opening} Were it to answer now: ${list.replace("The", "the")}; ${stands}.`;
    if (first === next) return `${opening} ${list}, which is the next item.`;
    if (first === named) return `${opening} ${list}: it follows what is written, not the history; ${stands}.`;
    const lost = named === undefined ? "the tokens name no item" : `what the tallies name, #${named}, stands at place ${order.indexOf(named) + 1}`;
    return `${opening} ${list}, and follows neither: ${lost}, and ${stands}.`;
  }

  function describe(state, { tokens, chances, order }) {
    const items = state.history.map((item) => `#${item} (${place(item)})`).join(", ");
    const words = tokens.map((token, i) => `${asText(token)} ${short(chances[i][token])}`).join(", ");
    return `History: ${items}. Tokens and their probabilities: ${words || "none"}. First five: ${order.slice(0, 5).map((item) => `#${item}`).join(", ")}. ${say(state)}`;
  }

  function details(state) {
    const { scores, order, next, named } = follow(state);
    const shown = [...new Set([...order.slice(0, 5), next, ...(named === undefined ? [] : [named])])];
    const rows = shown.map((item) => {
      const notes = [...(item === next ? ["next by the sums"] : []), ...(item === named ? ["named by the tallies"] : [])];
      const cells = [`#${item}`, classes[item], slots[item], number(scores[item], 3), notes.join(", ")];
      return `<tr${item === next ? ' class="chosen"' : ""}><td>${order.indexOf(item) + 1}</td>${cells.map((cell) => `<td>${cell}</td>`).join("")}</tr>`;
    });
    const head = ["place", "item", "class", "slot", "cosine", "which is"].map((words) => `<th scope="col">${words}</th>`).join("");
    return `<table><thead><tr>${head}</tr></thead><tbody>${rows.join("")}</tbody></table>`;
  }

  function another(state, step) {
    const user = (state.user + step) % data.users.length;
    return { user, history: [...data.users[user]] };
  }

  explore.add("lab", {
    title: "The lab, live",
    start,
    controls: [
      {
        kind: "button", label: "Watch it write",
        act: (state, api) => {
          Object.assign(state, { byHand: none(), mine: [], count: 0, chosen: 0 });
          api.every(700, () => {
            state.count += 1;
            state.chosen = Math.min(state.count, REASONING - 1);
            return state.count < REASONING;
          });
        },
      },
      {
        kind: "range", key: "count", label: "Tokens written", min: 0, max: REASONING, step: 1,
        set: (state, count) => Object.assign(state, { count, chosen: Math.min(state.chosen, count, REASONING - 1) }),
      },
      { kind: "choice", key: "rest", label: "Behind a token of yours", options: [["on", "it writes on"], ["stays", "the rest stays"]] },
      { kind: "button", label: "Another user", act: (state) => Object.assign(put(state, none()), another(state, 1)) },
      {
        kind: "button", label: "Another user's tallies",
        act: (state) => put(state, write(another(state, 1).history, none(), REASONING).tokens),
      },
      { kind: "button", label: "Idle words", act: (state) => put(state, none().map((_, i) => CHATTER + ((5 * i + 3) % 16))) },
      { kind: "button", label: "Let it write all", act: (state) => put(state, none()) },
    ],
    draw,
    say,
    details,
    functions: { write, scoreItems, itemStates, nextItem, writeTallies, asText, gelu, half },
  });
})();
