/* What a stylesheet alone can't do: on a phone a table that is too wide becomes a card a row, each value with its
   column's name, and what scrolls sideways can be reached by keyboard. Without scripts such a table scrolls. */
"use strict";
(() => {
  const narrow = matchMedia("(max-width: 600px)");
  const article = document.querySelector("article");
  const BOXES = "pre, .output, p:has(> img.plot), .pst-scrollable-table-container";  // also in what is unfolded later
  const widths = new Map();  // of the tables as tables

  function label(table) {
    const names = [];
    for (const row of table.tHead.rows) {
      let at = 0;
      for (const cell of row.cells) {
        for (let n = cell.colSpan; n > 0; n--, at++) {
          names[at] = [names[at], cell.textContent.trim()].filter(Boolean).join(", ");
        }
      }
    }
    for (const cell of table.querySelectorAll("tbody [rowspan]")) {  // a card repeats what stands beside several rows
      let row = cell.parentElement;
      for (let n = cell.rowSpan; n > 1; n--) {
        row = row.nextElementSibling;
        const copy = cell.cloneNode(true);
        copy.removeAttribute("rowspan");
        copy.className = "repeated";
        row.insertBefore(copy, row.cells[cell.cellIndex]);
      }
    }
    const roles = {THEAD: "rowgroup", TBODY: "rowgroup", TR: "row", TD: "cell"};  // cards would lose them
    table.setAttribute("role", "table");
    for (const part of table.querySelectorAll("thead, tbody, tr, td, th")) {
      const head = part.closest("thead") ? "columnheader" : "rowheader";
      part.setAttribute("role", roles[part.tagName] ?? head);
      if (names[part.cellIndex] && !part.closest("thead")) part.dataset.label = names[part.cellIndex];
    }
    widths.set(table, 0);
  }

  function fit() {
    for (const table of widths.keys()) {
      if (!table.classList.contains("cards")) widths.set(table, table.scrollWidth);
      const wide = widths.get(table) > table.parentElement.clientWidth + 1;
      table.classList.toggle("cards", narrow.matches && wide);
    }
    for (const box of article.querySelectorAll(BOXES)) {
      box.tabIndex = box.scrollWidth > box.clientWidth ? 0 : -1;
    }
  }

  article?.querySelectorAll("table:has(> thead):has(> tbody)").forEach(label);
  if (article) new ResizeObserver(fit).observe(article);
})();
