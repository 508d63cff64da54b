/* What all explorables share: state, drawing, controls, handles to drag, keyboard, resizing, a text of what is seen.
 *
 * A page holds `<div class="explore" data-explore="NAME">still picture and sentence</div>`, then this script, then
 * NAME.js, which calls explore.add("NAME", part). Without scripts the still picture and the sentence stay. A part has
 *
 *   title      one line
 *   start()    a fresh state, a plain object
 *   controls   a list, or a function of the state that gives one, of
 *              {kind: "range", key, label, min, max, step}            a slider beside a field to type in
 *              {kind: "choice", key, label, options: [[value, text]]} one of a few with short names
 *              {kind: "list", key, label, options: [[value, text]]}   one of more, or with long names
 *              {kind: "check", key, label}                            on or off
 *              {kind: "button", label, act(state, api)}
 *              any of them with get(state) and set(state, value, api) in place of key, and hidden(state)
 *   draw(state, width)  {svg, height, alt, handles, press}: markup of a picture `width` pixels wide, its text
 *              alternative, what can be dragged in it, and press(state, x, y, api) for a click elsewhere in it.
 *              A handle is {id, x, y, label, grab(state), move(state, x, y), nudge(state, dx, dy)}, the last three
 *              optional: taken by pointer or focus, dragged to a place, moved by an arrow key (dx, dy are -1, 0 or 1).
 *   say(state) a sentence of plain text: what is to be seen now
 *   details(state)  HTML below the picture, such as a table; optional
 *   functions  what a test holds against the library
 *
 * `api` has update() and every(milliseconds, step): step() runs until it returns false, at once for readers who asked
 * for less motion. Colours come from frame.css, so the page's theme switch needs nothing here.
 */
"use strict";

globalThis.explore ??= (() => {
  const parts = {};

  function add(name, part) {
    parts[name] = part;
    if (typeof document === "undefined") return;
    document.querySelectorAll(`[data-explore="${name}"]`).forEach((root) => mount(root, name, part));
  }

  function mount(root, name, part) {
    if (root.classList.contains("live")) return;
    let state = part.start();
    const picture = element("div", { class: "explore-picture" });
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("role", "img");
    const controls = element("div", { class: "explore-controls" });
    const said = element("p", { class: "explore-say", "aria-live": "polite" });
    const details = element("div", { class: "explore-details" });
    const knobs = new Map(), handles = new Map();
    let timer = 0, drawn = {}, shown = "";

    const api = { update, every };

    function every(milliseconds, step) {
      clearInterval(timer);
      const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
      for (let left = 10000; still && left > 0 && step() !== false; left -= 1);
      update();
      if (still) return;
      timer = setInterval(() => {
        const goes = step();
        if (goes === false) clearInterval(timer);
        update();
      }, milliseconds);
    }

    function change(act) {
      clearInterval(timer);
      act();
      update();
    }

    function update() {
      const width = Math.max(260, Math.round(picture.clientWidth));
      drawn = part.draw(state, width);
      svg.setAttribute("viewBox", `0 0 ${width} ${drawn.height}`);
      svg.setAttribute("aria-label", drawn.alt);
      svg.innerHTML = drawn.svg;
      const present = new Set((drawn.handles ?? []).map((handle) => handle.id));
      for (const handle of drawn.handles ?? []) {
        if (!handles.has(handle.id)) handles.set(handle.id, makeHandle(handle.id));
        const button = handles.get(handle.id);
        button.style.left = `${(100 * handle.x) / width}%`;
        button.style.top = `${(100 * handle.y) / drawn.height}%`;
        button.setAttribute("aria-label", handle.label);
      }
      handles.forEach((button, id) => (button.hidden = !present.has(id)));
      for (const spec of typeof part.controls === "function" ? part.controls(state) : part.controls ?? []) {
        const key = spec.key ?? spec.label;
        if (!knobs.has(key)) {
          knobs.set(key, KINDS[spec.kind](spec, `explore-${name}-${knobs.size}`, (value) => change(() => write(spec, value))));
          controls.insertBefore(knobs.get(key).node, reset);
        }
        knobs.get(key).node.hidden = spec.hidden ? spec.hidden(state) : false;
        knobs.get(key).show(read(spec), spec);
      }
      words(said, part.say ? part.say(state) : "");
      const html = part.details ? part.details(state) : "";
      if (shown !== html) details.innerHTML = shown = html;
    }

    const read = (spec) => (spec.get ? spec.get(state) : state[spec.key]);

    function write(spec, value) {
      if (spec.act) spec.act(state, api);
      else if (spec.set) spec.set(state, value, api);
      else state[spec.key] = value;
    }

    function makeHandle(id) {
      const button = element("button", { class: "explore-handle", type: "button", "data-handle": id });
      const find = () => drawn.handles.find((handle) => handle.id === id);
      let held = false;
      button.addEventListener("pointerdown", (event) => {
        held = true;
        button.setPointerCapture(event.pointerId);
        change(() => find().grab?.(state));
      });
      button.addEventListener("pointermove", (event) => held && change(() => find().move?.(state, ...place(event))));
      for (const end of ["pointerup", "pointercancel"]) button.addEventListener(end, () => (held = false));
      button.addEventListener("focus", () => !held && change(() => find().grab?.(state)));
      button.addEventListener("keydown", (event) => {
        const step = ARROWS[event.key];
        if (!step) return;
        event.preventDefault();
        change(() => find().nudge?.(state, ...step));
      });
      picture.append(button);
      return button;
    }

    function place(event) {
      const box = svg.getBoundingClientRect();
      const scale = svg.viewBox.baseVal.width / box.width;
      return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    }

    svg.addEventListener("click", (event) => drawn.press && change(() => drawn.press(state, ...place(event), api)));
    const reset = element("button", { class: "explore-button", type: "button" }, "Start again");
    reset.addEventListener("click", () => change(() => (state = part.start())));
    controls.append(reset);
    picture.append(svg);
    const heading = element("p", { class: "explore-title" }, part.title);
    root.querySelectorAll("img").forEach((image) => image.remove());
    root.prepend(heading); // the sentence stays below it
    root.append(picture, said, controls, details);
    root.classList.add("live");
    root.state = () => state; // for tests
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", part.title);
    let width = 0;
    new ResizeObserver(() => {
      if (picture.clientWidth === width) return;
      width = picture.clientWidth;
      update();
    }).observe(picture);
    update();
  }

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

  const KINDS = {
    range(spec, id, write) {
      const slider = element("input", { type: "range", id, min: spec.min, max: spec.max, step: spec.step });
      const field = element("input", { type: "number", min: spec.min, max: spec.max, step: spec.step });
      const label = element("label", { for: id });
      slider.addEventListener("input", () => write(Number(slider.value)));
      field.addEventListener("input", () => {
        const value = field.valueAsNumber;
        if (value >= spec.min && value <= spec.max) write(value); // half a number is left alone
      });
      field.addEventListener("blur", () => (field.value = slider.value));
      const show = (value, now) => {
        slider.max = field.max = now.max;
        words(label, now.label);
        field.setAttribute("aria-label", `${now.label.replace("_", "")}, typed`);
        slider.value = value;
        if (field !== document.activeElement || field.valueAsNumber !== value) field.value = value;
      };
      return { node: element("div", { class: "explore-knob" }, label, slider, field), show };
    },

    choice(spec, id, write) {
      const inputs = spec.options.map(([value, text], number) => {
        const input = element("input", { type: "radio", name: id, id: `${id}-${number}` });
        input.addEventListener("change", () => write(value));
        return [value, input, element("label", { for: `${id}-${number}` }, text)];
      });
      const legend = element("legend", {}, spec.label);
      const boxes = inputs.map(([, input, label]) => element("span", {}, input, label));
      const show = (value) => inputs.forEach(([own, input]) => (input.checked = own === value));
      return { node: element("fieldset", { class: "explore-choice" }, legend, ...boxes), show };
    },

    list(spec, id, write) {
      const select = element("select", { id }, ...spec.options.map(([, text]) => element("option", {}, text)));
      select.addEventListener("change", () => write(spec.options[select.selectedIndex][0]));
      const show = (value) => (select.selectedIndex = spec.options.findIndex(([own]) => own === value));
      return { node: element("div", { class: "explore-check" }, element("label", { for: id }, spec.label), select), show };
    },

    check(spec, id, write) {
      const input = element("input", { type: "checkbox", id });
      input.addEventListener("change", () => write(input.checked));
      const node = element("div", { class: "explore-check" }, input, element("label", { for: id }, spec.label));
      return { node, show: (value) => (input.checked = value) };
    },

    button(spec, id, write) {
      const node = element("button", { class: "explore-button", type: "button", id }, spec.label);
      node.addEventListener("click", () => write());
      return { node, show: () => {} };
    },
  };

  function element(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }

  /** Put plain text into a node, R_d with its subscript; nothing is touched, or announced, where nothing changed. */
  function words(node, text) {
    if (node.dataset.words === text) return;
    node.innerHTML = escape((node.dataset.words = text)).replace(/_([a-z])\b/g, "<sub>$1</sub>");
  }

  /** Put a drawing into a file of its own, in the light theme: the still picture. */
  function still(name, width, css) {
    const { svg, height, alt } = parts[name].draw(parts[name].start(), width);
    const size = `viewBox="0 0 ${width} ${height}" width="${width}" height="${height}"`;
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" class="explore" ${size}>\n<title>${escape(alt)}</title>\n` +
      `<style>${css}</style>\n<rect width="100%" height="100%" fill="#fff"/>\n${svg}\n</svg>\n`
    );
  }

  const escape = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/"/g, "&quot;");
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

  /** A number with so many digits after the point, with a real minus sign and no minus zero. */
  function number(value, digits = 2, sign = false) {
    const size = Math.abs(value).toFixed(digits);
    if (Number(size) === 0) return size;
    return value < 0 ? `−${size}` : sign ? `+${size}` : size;
  }

  /** `<text>` at a place; more attributes as a string. */
  const text = (x, y, words, attributes = "") =>
    `<text x="${round(x)}" y="${round(y)}" ${attributes}>${escape(words)}</text>`;
  const line = (x1, y1, x2, y2, style) =>
    `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" class="${style}"/>`;
  const rect = (x, y, width, height, style, attributes = "") =>
    `<rect x="${round(x)}" y="${round(y)}" width="${round(Math.max(0, width))}" height="${round(Math.max(0, height))}" ` +
    `class="${style}" ${attributes}/>`;
  const round = (value) => Math.round(value * 100) / 100;

  // ---- arithmetic that several share: rrec_lib.evaluation.metrics, rrec_lib.recpo.rewards and .advantages

  /** NDCG@k of one target with `greater` items above it and `equal` at its score, itself included: the mean discount
   * over the places that a tie leaves open. */
  function expectedNdcg(greater, equal, k) {
    let sum = 0;
    for (let place = greater + 1; place <= Math.min(greater + equal, k); place += 1) sum += 1 / Math.log2(1 + place);
    return sum / Math.max(equal, 1);
  }

  /** What a group earns.
   *
   * @param ranks      [greater, equal] of the target, behind each reasoning
   * @param similarity R_c: the target's probability, behind each
   */
  function rewardGroup(ranks, similarity, k, beta) {
    const ranking = ranks.map(([greater, equal]) => expectedNdcg(greater, equal, k));
    const fused = ranking.map((reward, g) => beta * similarity[g] + (1 - beta) * reward);
    return { ranking, similarity, fused, grpo: grpoAdvantages(fused), rloo: rlooAdvantages(fused) };
  }

  /** Rewards minus their mean; minus the first beforehand, so that equal rewards give exact zeros. */
  function centred(rewards) {
    const offsets = rewards.map((reward) => reward - rewards[0]);
    const mean = offsets.reduce((sum, offset) => sum + offset, 0) / offsets.length;
    return offsets.map((offset) => offset - mean);
  }

  function grpoAdvantages(rewards, eps = 1e-4) {
    const offsets = centred(rewards);
    const spread = Math.sqrt(offsets.reduce((sum, offset) => sum + offset ** 2, 0) / (offsets.length - 1));
    return offsets.map((offset) => offset / (spread + eps));
  }

  function rlooAdvantages(rewards) {
    return centred(rewards).map((offset) => (rewards.length / (rewards.length - 1)) * offset);
  }

  return {
    add, parts, data: {}, still, escape, clamp, number, text, line, rect, round, expectedNdcg, rewardGroup,
    grpoAdvantages, rlooAdvantages,
  };
})();
