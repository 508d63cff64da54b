/* How wide is that interval? Test users drawn again and again, each with all rows: the bootstrap of
 * rrec_lib.evaluation.intervals, on rows that a recorded run wrote (interval-data.js). */
"use strict";

(() => {
  const { number, text, line, rect, round, data } = explore;
  const SYSTEMS = Object.keys(data.interval?.values ?? {});
  const LEVEL = 0.95, BINS = 40, ENOUGH = 100; // draws from which on a quantile of 2.5 % says something

  /** Mean of a metric over rows for each draw, a list of users who each bring all their rows. */
  function drawnMeans(rowsOfUsers, draws) {
    const sums = Float64Array.from(rowsOfUsers, (rows) => rows.reduce((sum, value) => sum + value, 0));
    const counts = Int32Array.from(rowsOfUsers, (rows) => rows.length);
    return draws.map((users) => {
      let sum = 0, rows = 0;
      for (const user of users) {
        sum += sums[user];
        rows += counts[user];
      }
      return sum / rows;
    });
  }

  /** Quantile with straight lines between the sorted values, as NumPy's. */
  function quantile(values, share) {
    const sorted = Float64Array.from(values).sort(), at = share * (sorted.length - 1), below = Math.floor(at);
    const above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (at - below) * (sorted[above] - sorted[below]);
  }

  /** [mean, low, high] over users, for given draws. */
  function interval(rowsOfUsers, draws, level = LEVEL) {
    const all = rowsOfUsers.flat(), means = drawnMeans(rowsOfUsers, draws);
    const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
    return [mean, quantile(means, (1 - level) / 2), quantile(means, (1 + level) / 2)];
  }

  /** How many equally busy users would weigh as these do: (Σ rows)² / Σ rows². */
  function equalUsers(counts) {
    const sum = counts.reduce((total, count) => total + count, 0);
    return sum ** 2 / counts.reduce((total, count) => total + count ** 2, 0);
  }

  /** A small seeded generator, Mulberry32: the same draws for every reader. */
  function random(seed) {
    let state = seed >>> 0;
    return () => {
      state = (state + 0x6d2b79f5) >>> 0;
      let mixed = Math.imul(state ^ (state >>> 15), state | 1);
      mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
      return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
    };
  }

  function drawUsers(size, count, seed) {
    const next = random(seed);
    return Array.from({ length: count }, () => new Int32Array(size).map(() => next() * size));
  }

  // ---- the page

  const MOST = data.interval ? Math.max(...data.interval.values[SYSTEMS[0]].map((rows) => rows.length)) : 1;
  const start = () => ({ system: SYSTEMS[0], minus: "none", cap: MOST, count: 1000 });

  /** Rows of each user: the metric or the difference of two, at most `cap` rows of one user. */
  function rowsOf({ system, minus, cap }) {
    const other = minus === "none" ? null : data.interval.values[minus];
    return data.interval.values[system].map((rows, user) =>
      rows.slice(0, cap).map((value, row) => (other ? value - other[user][row] : value)),
    );
  }

  let kept = { key: "" };
  function follow(state) {
    const key = JSON.stringify(state);
    if (kept.key === key) return kept;
    const rows = rowsOf(state), singles = rows.flat().map((value) => [value]);
    const draws = drawUsers(rows.length, state.count, 1);
    const means = drawnMeans(rows, draws), over = interval(rows, draws);
    const alone = interval(singles, drawUsers(singles.length, state.count, 2)).slice(1);
    const counts = rows.map((own) => own.length), busiest = [...counts].sort((a, b) => b - a).slice(0, 5);
    const sum = (values) => values.reduce((total, value) => total + value, 0);
    const times = Array.from(rows, () => 0);
    for (const user of draws[draws.length - 1]) times[user] += 1;
    kept = {
      key, rows, means, over, alone, times, counts, all: singles.length, last: means[means.length - 1],
      share: sum(busiest) / sum(counts), equal: equalUsers(counts),
    };
    return kept;
  }

  function draw(state, width) {
    const found = follow(state), beside = width >= 640, gap = 34;
    const part = beside ? (width - gap) / 2 : width;
    return {
      svg: people(state, found, 0, 0, part) + histogram(state, found, beside ? part + gap : 0, beside ? 0 : 316, part),
      height: beside ? 302 : 600,
      alt: sentence(state),
    };
  }

  /** Each user: how many rows, which mean, and how often the last draw took them. */
  function people(state, { rows, times, over, last, counts }, left, top, width) {
    const x0 = left + 40, x1 = left + width - 10, y0 = top + 238, y1 = top + 34;
    const means = rows.map((own) => own.reduce((sum, value) => sum + value, 0) / own.length);
    const low = Math.min(0, ...means), high = Math.max(0.1, ...means);
    const x = (count) => x0 + Math.sqrt(count / MOST) * (x1 - x0);
    const y = (value) => y0 - ((value - low) / (high - low)) * (y0 - y1);
    let svg = text(left, top + 16, "Each user's mean, and the last draw", 'class="strong"');
    svg += rect(x0, y1 - 6, x1 - x0 + 8, y0 - y1 + 12, "panel");
    for (const count of [1, 10, 50, 100]) {
      svg += line(x(count), y1 - 6, x(count), y0 + 6, "grid") + text(x(count), y0 + 22, count, 'class="small muted middle"');
    }
    for (let tick = Math.ceil(low / 0.2); tick * 0.2 <= high; tick += 1) {
      svg += line(x0, y(tick * 0.2), x1 + 8, y(tick * 0.2), "grid");
      svg += text(x0 - 6, y(tick * 0.2) + 4, number(tick * 0.2, 1), 'class="small muted end"');
    }
    svg += line(x0, y(0), x1 + 8, y(0), "axis");
    svg += line(x0, y(over[0]), x1 + 8, y(over[0]), "axis s-blue") + line(x0, y(last), x1 + 8, y(last), "axis s-pink dash");
    means.forEach((mean, user) => {
      const at = `cx="${round(x(counts[user]))}" cy="${round(y(mean))}"`;
      svg += times[user]
        ? `<circle ${at} r="${round(3.4 * Math.sqrt(times[user]))}" class="pink half"/>`
        : `<circle ${at} r="2.5" class="axis"/>`;
    });
    svg += text((x0 + x1) / 2, y0 + 40, "rows of the user", 'class="small middle"');
    return svg + text(left, y0 + 58, "○ not drawn ● drawn; dashed: mean of this draw", 'class="small muted"');
  }

  /** Means of the draws, and both intervals. */
  function histogram(state, { means, over, alone, last }, left, top, width) {
    const x0 = left + 12, x1 = left + width - 12, y0 = top + 184, y1 = top + 34;
    const spread = Math.max(0.004, 1.9 * Math.max(over[2] - over[0], over[0] - over[1], alone[1] - over[0], over[0] - alone[0], Math.abs(last - over[0]) / 1.5));
    const low = over[0] - spread, high = over[0] + spread;
    const x = (value) => x0 + ((value - low) / (high - low)) * (x1 - x0);
    const bins = Array.from({ length: BINS }, () => 0);
    for (const mean of means) bins[Math.min(BINS - 1, Math.max(0, Math.floor(((mean - low) / (high - low)) * BINS)))] += 1;
    const most = Math.max(...bins), wide = (x1 - x0) / BINS;
    let svg = text(left, top + 16, `Means of ${means.length.toLocaleString("en")} draws`, 'class="strong"');
    svg += rect(x0 - 8, y1 - 6, x1 - x0 + 16, y0 - y1 + 6, "panel");
    bins.forEach((count, bin) => {
      const high = (count / most) * (y0 - y1);
      svg += rect(x0 + bin * wide + 0.5, y0 - high, wide - 1, high, "sky");
    });
    svg += line(x0 - 8, y0, x1 + 8, y0, "axis");
    const step = spread > 0.06 ? 0.05 : spread > 0.02 ? 0.02 : spread > 0.01 ? 0.01 : 0.002;
    for (let tick = Math.ceil(low / step); tick * step <= high; tick += 1) {
      svg += line(x(tick * step), y0, x(tick * step), y0 + 4, "axis");
      svg += text(x(tick * step), y0 + 18, number(tick * step, step < 0.01 ? 3 : 2), 'class="small muted middle"');
    }
    if (low < 0 && high > 0 && state.minus !== "none") svg += line(x(0), y1 - 6, x(0), y0, "axis s-text");
    svg += line(x(last), y1 - 6, x(last), y0, "axis s-pink dash");
    const bars = [[over.slice(1), "blue", "95 % over users"], [alone, "orange", "95 % if rows were independent"]];
    bars.forEach(([[from, to], colour, words], index) => {
      const y = y0 + 44 + 34 * index;
      svg += text((x0 + x1) / 2, y - 4, `${words}: ${number(from, 3)} to ${number(to, 3)}`, 'class="small middle"');
      svg += line(x(from), y + 6, x(to), y + 6, `curve s-${colour}`) + line(x(from), y + 1, x(from), y + 11, `curve s-${colour}`);
      svg += line(x(to), y + 1, x(to), y + 11, `curve s-${colour}`);
      svg += `<circle cx="${round(x(over[0]))}" cy="${y + 6}" r="4" class="${colour}"/>`;
    });
    return svg;
  }

  function sentence(state) {
    const { over, alone, rows, all, share, equal, means } = follow(state);
    const what = `NDCG@20 of ${state.system}${state.minus === "none" ? "" : ` minus ${state.minus}`}`;
    const ratio = (alone[1] - alone[0]) / (over[2] - over[1]);
    return (
      `${what}: ${number(over[0], 3)}` +
      (means.length < ENOUGH
        ? `. ${means.length === 1 ? "One draw is" : `${means.length} draws are`} no interval yet. `
        : `, with 95 % of the draws between ${number(over[1], 3)} and ${number(over[2], 3)}. ` +
          `If its ${all.toLocaleString("en")} rows were independent, the interval would be ${number(ratio)} times as wide. `) +
      `Five of the ${rows.length} users own ${number(100 * share, 0)} % of the rows; ` +
      `together all weigh like ${number(equal, 0)} equally busy ones.`
    );
  }

  const one = (name) => [name, name];
  explore.add("interval", {
    title: "How wide is that interval?",
    start,
    controls: (state) => [
      {
        kind: "list", key: "system", label: "NDCG@20 of", options: SYSTEMS.map(one),
        set: (now, system) => Object.assign(now, { system, minus: now.minus === system ? "none" : now.minus }),
      },
      {
        kind: "list", key: "minus", label: "minus", options: [["none", "nothing"], ...SYSTEMS.map(one)],
        set: (now, minus) => (now.minus = minus === now.system ? "none" : minus),
      },
      { kind: "range", key: "cap", label: "rows per user ≤", min: 1, max: MOST, step: 1 },
      { kind: "button", label: "Draw from the start", act: (now) => (now.count = 1) },
      { kind: "button", label: "Draw once more", act: (now) => (now.count = Math.min(2000, now.count + 1)) },
      {
        kind: "button", label: "Draw 1,000",
        act: (now, api) => {
          if (now.count >= 1000) now.count = 1;
          api.every(60, () => (now.count = Math.min(1000, now.count + Math.ceil(now.count / 3))) < 1000);
        },
      },
    ],
    draw,
    say: sentence,
    functions: { drawnMeans, quantile, interval, equalUsers, drawUsers },
  });
})();
