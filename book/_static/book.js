/* What a stylesheet alone can't do: on a phone a table that is too wide becomes a card a row, each value with its
   column's name, and what scrolls sideways can be reached by keyboard. Without scripts such a table scrolls. */
"use strict";
(() => {
  const narrow = matchMedia("(max-width: 600px)");
  const article = document.querySelector("article");
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
    for (const box of article.querySelectorAll("p:has(> img.plot), .pst-scrollable-table-container")) {
      box.tabIndex = box.scrollWidth > box.clientWidth ? 0 : -1;
    }
  }

  for (const table of article?.querySelectorAll("table:has(> thead):has(> tbody)") ?? []) {
    if (!table.querySelector("tbody :is([rowspan], [colspan])")) label(table);
  }
  if (article) new ResizeObserver(fit).observe(article);
})();
