/* A deck is a page that scrolls, which is what a phone gets. On a wider screen reveal.js makes a slide show of it, and
   with ?print or ?print=notes it becomes pages of the size of a slide. The reader's choice of light or dark is the book's. */
"use strict";
const root = document.documentElement;
const asked = new URLSearchParams(location.search);
const narrow = matchMedia("(max-width: 640px)");

function paint(mode) {
  if (mode === "light" || mode === "dark") root.dataset.theme = mode;
}

function stored() {
  try { return localStorage.getItem("mode"); } catch { return null; }  // a page on a disk may have no storage
}

async function begin() {
  const phone = narrow.matches && window.parent === window;  // the speaker's window has small frames of the show
  if (asked.has("print") || phone) {
    root.dataset.deck = asked.has("print") ? "print" : "page";
    root.dataset.notes = asked.get("print") === "notes" ? "shown" : "hidden";
    if (phone) narrow.addEventListener("change", () => location.reload(), {once: true});
    return;
  }
  document.querySelector(".deck").classList.add("reveal");
  await Reveal.initialize({
    width: 1280, height: 720, margin: 0, center: false, display: "flex", hash: true, slideNumber: "c/t",
    transition: "none", backgroundTransition: "none", scrollActivationWidth: null, plugins: [RevealNotes],
  });
  Reveal.addKeyBinding({keyCode: 68, key: "D", description: "Light or dark"}, () => {
    const now = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    paint(now === "dark" ? "light" : "dark");
  });
  narrow.addEventListener("change", () => location.reload(), {once: true});
  root.dataset.deck = "show";
}

paint(asked.has("print") ? "light" : stored());
window.MathJax = {
  chtml: {matchFontHeight: false},
  options: {enableMenu: false},
  startup: {pageReady: () => MathJax.startup.defaultPageReady().then(begin)},
};
