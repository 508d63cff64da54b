// A field that completes titles, and the films chosen with it, as Gradio's HTML component runs it: `element` is its
// root, `props.value` the list [{row, name, rating}], `server.complete(text)` asks the library. With `props.most` 1 a
// film takes the place of the one before, and has no rating.
const many = props.most !== 1;
const field = element.querySelector("input"), options = element.querySelector("[role=listbox]");
const list = element.querySelector(".rr-chosen"), say = element.querySelector(".rr-say");
const id = element.id || "picker";
let found = [], active = -1, asked = 0;

options.id = id + "-options";
field.id = id + "-field";
element.querySelector("label").htmlFor = field.id;
field.setAttribute("aria-controls", options.id);

const chosen = () => (Array.isArray(props.value) ? props.value : []);

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// -- completion --

function close() {
  options.hidden = true;
  field.setAttribute("aria-expanded", "false");
  field.removeAttribute("aria-activedescendant");
  active = -1;
  asked++; // an answer that is still to come is for nobody
}

function point(at) {
  active = at;
  [...options.children].forEach((option, i) => option.setAttribute("aria-selected", String(i === at)));
  if (at < 0) return;
  field.setAttribute("aria-activedescendant", options.children[at].id);
  options.children[at].scrollIntoView({ block: "nearest" });
}

async function complete() {
  const turn = ++asked, text = field.value;
  const films = await server.complete(text);
  if (turn !== asked || document.activeElement !== field) return; // something was typed or left meanwhile
  found = films;
  options.replaceChildren(...found.map((film, i) =>
    make("li", { role: "option", id: `${id}-option-${i}`, "aria-selected": "false" }, film.name)));
  options.hidden = !found.length;
  field.setAttribute("aria-expanded", String(found.length > 0));
  say.textContent = found.length ? "" : `No title holds “${text}”.`;
  point(text && found.length ? 0 : -1);
}

function typed() {
  close(); // what is listed answers an earlier text
  complete();
}

function take(film) {
  if (many && chosen().some(other => other.row === film.row)) {
    say.textContent = `${film.name} is there already.`;
  } else {
    say.textContent = "";
    const added = many ? { ...film, rating: 4 } : film;
    props.value = many ? [...chosen(), added] : [added];
    show();
  }
  field.value = "";
  close();
}

field.addEventListener("input", typed);
field.addEventListener("blur", close);
field.addEventListener("keydown", event => {
  const open = !options.hidden, last = found.length - 1;
  if (event.key === "ArrowDown" && !open) complete();
  else if (event.key === "ArrowDown") point(active >= last ? 0 : active + 1);
  else if (event.key === "ArrowUp" && open) point(active <= 0 ? last : active - 1);
  else if (event.key === "Enter" && open && active >= 0) take(found[active]);
  else if (event.key === "Escape") close();
  else return;
  event.preventDefault();
});
options.addEventListener("mousedown", event => event.preventDefault()); // the field keeps the focus
options.addEventListener("click", event => {
  const at = [...options.children].indexOf(event.target);
  if (at >= 0) take(found[at]);
});

// -- what is chosen --

function button(act, label, sign, off) {
  const node = make("button", { type: "button", "data-act": act, "aria-label": label, title: label }, sign);
  node.disabled = off;
  return node;
}

function line(film, i, all) {
  const item = make("li", { "data-at": i }, make("span", { class: "rr-name" }, film.name));
  if (many) {
    const stars = make("input", { type: "range", min: 0.5, max: 5, step: 0.5, "aria-label": `Rating of ${film.name}` });
    stars.value = film.rating;
    const rating = make("span", { class: "rr-stars", style: `--rating: ${film.rating}` }, stars);
    const number = make("output", {}, `${film.rating}/5`);
    item.append(rating, number,
      button("up", `Move ${film.name} up`, "↑", i === 0),
      button("down", `Move ${film.name} down`, "↓", i === all.length - 1));
  }
  item.append(button("remove", `Remove ${film.name}`, "×", false));
  return item;
}

function show() {
  list.replaceChildren(...chosen().map(line));
}

list.addEventListener("input", event => {
  const item = event.target.closest("li"), at = Number(item.dataset.at), rating = Number(event.target.value);
  item.querySelector(".rr-stars").style.setProperty("--rating", rating);
  item.querySelector("output").textContent = `${rating}/5`;
  props.value = chosen().map((film, i) => (i === at ? { ...film, rating } : film));
});

list.addEventListener("click", event => {
  const pressed = event.target.closest("button");
  if (!pressed) return;
  const at = Number(pressed.closest("li").dataset.at), act = pressed.dataset.act, films = [...chosen()];
  const to = act === "up" ? at - 1 : at + 1, [film] = films.splice(at, 1);
  if (act !== "remove") films.splice(to, 0, film);
  props.value = films;
  show();
  // The focus stays with the film that was moved, or goes to the one that took the place of what was removed.
  const item = list.children[act === "remove" ? Math.min(at, films.length - 1) : to];
  const same = item && item.querySelector(`[data-act=${act}]:not(:disabled)`);
  (same || (item && item.querySelector("button:not(:disabled)")) || field).focus();
  say.textContent = act === "remove" ? `${film.name} is removed.` : `${film.name} is now number ${to + 1}.`;
});

watch("value", show);
show();
