/* The clip: what min(r·A, clip(r)·A) gains and where its gradient is cut; rrec_lib.recpo.losses.clipped_gain. */
"use strict";

(() => {
  const { number, text, line, rect, clamp, round } = explore;

  /** [ℓ, gradient of ℓ by r, whether the clip removes the gradient]. */
  function clippedGain(ratio, advantage, low, high) {
    const clipped = clamp(ratio, 1 - low, 1 + high);
    const removed = (ratio > 1 + high && advantage > 0) || (ratio < 1 - low && advantage < 0);
    return [Math.min(ratio * advantage, clipped * advantage), removed ? 0 : advantage, removed];
  }

  // ---- the page

  const LONGEST = 2;
  const start = () => ({ ratio: 1.1, advantage: 1, low: 0.2, high: 0.2 });

  function draw(state, width) {
    const { ratio, advantage, low, high } = state;
    const [gain, slope, removed] = clippedGain(ratio, advantage, low, high);
    const left = 46, right = width - 14, top = 30, middle = 250, lower = 300, bottom = 400;
    const x = (value) => left + (value / LONGEST) * (right - left);
    const most = Math.max(0.5, LONGEST * Math.abs(advantage));
    const signs = advantage < 0 ? [-most, 0] : [0, most];
    const y = (value) => middle - ((value - signs[0]) / (signs[1] - signs[0])) * (middle - top);
    const steep = Math.max(0.5, Math.abs(advantage)) * 1.25;
    const z = (value) => (lower + bottom) / 2 - (value / steep) * ((bottom - lower) / 2);
    const edges = [1 - low, 1 + high];
    const cut = advantage > 0 ? [edges[1], LONGEST] : advantage < 0 ? [0, edges[0]] : null;
    let svg = "";
    for (const [from, to] of [[top, middle], [lower, bottom]]) {
      svg += rect(left, from, right - left, to - from, "panel");
      svg += rect(x(edges[0]), from, x(edges[1]) - x(edges[0]), to - from, "sky faint");
      if (cut) svg += rect(x(cut[0]), from, x(cut[1]) - x(cut[0]), to - from, "orange faint");
      for (const edge of edges) svg += line(x(edge), from, x(edge), to, "axis dash");
    }
    svg += line(left, y(0), right, y(0), "axis") + line(left, z(0), right, z(0), "axis");
    if (cut) svg += text(clamp((x(cut[0]) + x(cut[1])) / 2, left + 42, right - 42), middle - 14, "gradient cut", 'class="middle strong small"');
    svg += text(left, top - 12, "gain ℓ(r, A)", 'class="strong"');
    svg += text(left, lower - 12, "gradient dℓ/dr", 'class="strong"');
    for (const [value, style] of [[signs[0], ""], [signs[1], ""]]) svg += text(left - 6, y(value) + 4, number(value, 1), `class="end small muted ${style}"`);
    for (const value of [0, advantage]) if (value || !advantage) svg += text(left - 6, z(value) + 4, number(value, 1), 'class="end small muted"');
    if (advantage) svg += text(left - 6, z(0) + 4, "0", 'class="end small muted"');
    for (const value of [0, 0.5, 1, 1.5, 2]) svg += text(x(value), bottom + 18, number(value, 1), 'class="middle small muted"');
    const bounds = [[x(edges[0]) - 4, "end", `1 − ε = ${number(edges[0])}`], [x(edges[1]) + 4, "", `1 + ε = ${number(edges[1])}`]];
    for (const [at, anchor, words] of bounds) svg += text(at, middle + 17, words, `class="small ${anchor}"`);
    svg += text((left + right) / 2, bottom + 36, "ratio r: new probability over old", 'class="middle small"');
    svg += `<path d="M${round(x(0))} ${round(y(0))}L${round(x(LONGEST))} ${round(y(LONGEST * advantage))}" class="curve s-grey dash" style="stroke-width:1.5"/>`;
    const points = [0, ...edges, LONGEST].map((r) => `${round(x(r))} ${round(y(clippedGain(r, advantage, low, high)[0]))}`);
    svg += `<path d="M${points.join("L")}" class="curve s-blue"/>`;
    const pieces = [[0, edges[0]], edges, [edges[1], LONGEST]];
    for (const [from, to] of pieces) {
      const height = z(clippedGain((from + to) / 2, advantage, low, high)[1]);
      svg += line(x(from), height, x(to), height, "curve s-blue");
    }
    svg += line(x(ratio), top, x(ratio), middle, "axis") + line(x(ratio), lower, x(ratio), bottom, "axis");
    const spot = (height) =>
      `<circle cx="${round(x(ratio))}" cy="${round(height)}" r="9" class="${removed ? "orange" : "blue"}" style="stroke:var(--ex-panel);stroke-width:2"/>`;
    svg += spot(y(gain)) + spot(z(slope));
    const move = (now, px) => (now.ratio = Math.round(clamp(((px - left) / (right - left)) * LONGEST, 0, LONGEST) * 100) / 100);
    return {
      svg,
      height: bottom + 46,
      alt: sentence(state),
      press: move,
      handles: [
        {
          id: "ratio",
          x: x(ratio),
          y: y(gain),
          label: `Ratio ${number(ratio)}; arrow keys change it`,
          move,
          nudge: (now, dx, dy) => (now.ratio = clamp(Math.round((now.ratio + (dx || dy) / 100) * 100) / 100, 0, LONGEST)),
        },
      ],
    };
  }

  function sentence({ ratio, advantage, low, high }) {
    const [gain, slope, removed] = clippedGain(ratio, advantage, low, high);
    const where =
      ratio > 1 + high ? `above 1 + ε = ${number(1 + high)}` : ratio < 1 - low ? `below 1 − ε = ${number(1 - low)}` : "within the band";
    const why = removed
      ? `The token has already moved far enough ${advantage > 0 ? "up" : "down"}: its gradient is cut.`
      : advantage === 0
        ? "An advantage of 0 teaches nothing."
        : ratio > 1 + high || ratio < 1 - low
          ? "It has moved the wrong way, so the gradient stays and pulls it back."
          : "The gradient passes.";
    return `r = ${number(ratio)} is ${where}, A = ${number(advantage)}: gain ${number(gain)}, gradient ${number(slope)}. ${why}`;
  }

  explore.add("clip", {
    title: "The clip",
    start,
    controls: [
      { kind: "range", key: "ratio", label: "r, ratio", min: 0, max: 2, step: 0.01 },
      { kind: "range", key: "advantage", label: "A, advantage", min: -2, max: 2, step: 0.1 },
      { kind: "range", key: "low", label: "ε below 1", min: 0, max: 0.9, step: 0.01 },
      { kind: "range", key: "high", label: "ε above 1", min: 0, max: 0.9, step: 0.01 },
    ],
    draw,
    say: sentence,
    functions: { clippedGain },
  });
})();
