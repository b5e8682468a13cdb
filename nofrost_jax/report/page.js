"use strict";
const root = document.documentElement;
const each = (selector, act, within = document) => within.querySelectorAll(selector).forEach(act);
const stored = (value) => { // file: pages of some browsers have no storage
  try { return value ? localStorage.setItem("theme", value) : localStorage.getItem("theme"); } catch { return null; }
};

const toggle = document.getElementById("theme");
const isDark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const name = () => { toggle.textContent = isDark() ? "Light colours" : "Dark colours"; };
if (["light", "dark"].includes(stored())) root.dataset.theme = stored();
toggle.hidden = false;
toggle.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; stored(root.dataset.theme); name(); });
name();

function sort(button) {
  const head = button.closest("th"), table = button.closest("table"), body = table.tBodies[0];
  const place = head.cellIndex, isText = head.dataset.kind === "text";
  const order = head.getAttribute("aria-sort") === (isText ? "ascending" : "descending") ? (isText ? -1 : 1) : (isText ? 1 : -1);
  each("th[aria-sort]", (other) => other.setAttribute("aria-sort", "none"), table);
  head.setAttribute("aria-sort", order > 0 ? "ascending" : "descending");
  const value = (row) => row.cells[place].dataset.value ?? "";
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === ""); // what is missing stays last
    return order * (isText ? a.localeCompare(b) : a - b);
  };
  [...body.rows].sort((a, b) => compare(value(a), value(b))).forEach((row) => body.append(row));
}
each("th button", (button) => button.addEventListener("click", () => sort(button)));

const filters = document.getElementById("filters");
function filter() {
  const wanted = Object.fromEntries(new FormData(filters));
  const fits = (element, field) => !wanted[field] || !(field in element.dataset) || element.dataset[field] === wanted[field];
  each("[data-source]", (section) => { section.hidden = !fits(section, "source"); });
  let shown = 0, all = 0;
  each("tr[data-method]", (row) => {
    row.hidden = !(fits(row, "method") && fits(row, "net"));
    const counts = row.closest(".numbers") !== null;
    all += counts;
    shown += counts && !row.hidden && !row.closest("[data-source][hidden]");
  });
  each("table.numbers", (table) => { table.closest("section").hidden = ![...table.tBodies[0].rows].some((row) => !row.hidden); });
  each("[data-protocol]", (cell) => { cell.hidden = !fits(cell, "protocol"); });
  const hides = wanted.protocol && ` Only ${filters.protocol.selectedOptions[0].text} is shown beside clean accuracy; the other attacks are hidden.`;
  filters.querySelector("output").textContent = `${shown} of ${all} rows are shown.${hides || ""}`;
}
if (filters) {
  filters.hidden = false;
  filters.addEventListener("change", filter);
  filters.addEventListener("reset", () => setTimeout(filter)); // once the fields are empty
  filters.addEventListener("submit", (event) => event.preventDefault());
  filter();
}
