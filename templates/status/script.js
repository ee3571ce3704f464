
"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  if (!at("find")) return;
  const body = at("rows");
  const rows = [...body.rows];
  const byName = rows.slice();
  const byAge = rows.slice().sort((a, b) => (a.dataset.changed < b.dataset.changed ? 1 : a.dataset.changed > b.dataset.changed ? -1 : 0));

  const fits = (row, words, format, state) => {
    if (!words.every((word) => row.dataset.name.includes(word))) return false;
    if (!format && !state) return true;
    return row.dataset.tags.split(" ").some((tag) => {
      const [tagFormat, tagState] = tag.split(":");
      return (!format || tagFormat === format) && (!state || tagState === state);
    });
  };
  const show = () => {
    const words = at("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of rows) {
      const shown = fits(row, words, at("format").value, at("state").value);
      row.hidden = !shown;
      count += shown;
    }
    at("found").value = count === rows.length ? `${count} models` : `${count} of ${rows.length} models`;
    at("nothing").hidden = count > 0;
  };
  const order = () => body.append(...(at("order").value === "age" ? byAge : byName));

  at("find").hidden = false;
  at("find").addEventListener("submit", (event) => event.preventDefault());
  at("words").addEventListener("input", show);
  for (const id of ["format", "state"]) at(id).addEventListener("change", show);
  at("order").addEventListener("change", order);
  at("clear").addEventListener("click", () => {
    at("find").reset();
    order();
    show();
    at("words").focus();
  });
  show(); // a browser fills in what was asked for before the page was loaded again
  order();
})();
