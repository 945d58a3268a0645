// The page on which an experiment is made: rows that come and go, conditions, the picture of the split, the planner beside.
import { begin, say } from "./upshot.js";

const form = document.getElementById("experiment");
const rows = (list) => form.querySelector(`[data-rows-of="${list}"]`);

function number(list) {
  [...rows(list).children].forEach((row, place) => {
    for (const field of row.querySelectorAll("[name^='/'], [data-control]")) {
      const rename = (name) => name.replace(new RegExp(`^/${list}/\\d+`), `/${list}/${place}`);
      if (field.name.startsWith("/")) field.name = rename(field.name);
      if (field.dataset.control) field.dataset.control = rename(field.dataset.control);
    }
  });
}

document.addEventListener("click", (event) => {
  const { target } = event;
  if (target.dataset.add) {
    const list = target.dataset.add;
    const row = document.querySelector(`[data-template="${list}"]`).content.cloneNode(true).firstElementChild;
    rows(list).append(row);
    number(list);
    row.querySelector("input").focus();
  }
  if (target.matches("[data-add-condition]")) addCondition({}).querySelector("input").focus();
  if (target.matches("[data-remove]")) {
    const list = target.closest("[data-rows-of]")?.dataset.rowsOf;
    target.closest("[data-row]").remove();
    if (list) number(list);
    else write();
    review();
  }
  if (target.matches("[data-even]")) {
    const shares = [...form.querySelectorAll("[data-split]")];
    for (const field of shares) field.value = shares.length === 2 ? 50 : 1; // exactly equal, whatever their number
    review();
  }
  if (target.dataset.useUsers) {
    form.elements["/plan/planned_users"].value = target.dataset.useUsers;
    say("Planned users are set in step 5.");
    review();
  }
});

// Conditions: attribute, operator, value, under one `all` or `any`. A rule that says more stays as JSON.
const conditions = form.querySelector("[data-conditions]");
const rule = form.elements["/targeting"];
const mode = form.querySelector("[data-mode]");
const LISTS = new Set(["in", "not_in"]);

function addCondition({ attribute = "", operator = "eq", value = "" }) {
  const row = document.querySelector('[data-template="condition"]').content.cloneNode(true).firstElementChild;
  row.querySelector('[data-part="attribute"]').value = attribute;
  row.querySelector('[data-part="operator"]').value = operator;
  row.querySelector('[data-part="value"]').value = Array.isArray(value) ? value.join(", ") : String(value);
  conditions.append(row);
  return row;
}
function valueOf(operator, text) {
  const scalar = (part) => (part === "true" ? true : part === "false" ? false : part !== "" && Number.isFinite(+part) ? +part : part);
  if (LISTS.has(operator)) return text.split(",").map((part) => scalar(part.trim())).filter((part) => part !== "");
  if (operator === "exists") return text !== "false";
  return scalar(text.trim());
}
function write() {
  const found = [...conditions.children].map((row) => {
    const part = (name) => row.querySelector(`[data-part="${name}"]`).value;
    return { attribute: part("attribute"), operator: part("operator"), value: valueOf(part("operator"), part("value")) };
  });
  rule.value = found.length ? JSON.stringify(found.length === 1 ? found[0] : { [mode.value]: found }) : "";
}
function read() {
  let said;
  try {
    said = JSON.parse(rule.value || "{}");
  } catch {
    return;
  }
  const simple = (each) => each && Object.keys(each).length === 3 && "attribute" in each && "operator" in each && "value" in each;
  const list = said.all ?? said.any ?? (simple(said) ? [said] : []);
  conditions.replaceChildren();
  if (!list.every(simple) || (Object.keys(said).length > 1 && !simple(said))) return;
  mode.value = said.any ? "any" : "all";
  for (const each of list) addCondition(each);
}
read();
conditions.addEventListener("input", write);
mode.addEventListener("change", write);
rule.addEventListener("change", read);

// The picture of the split, and a line that says what is about to start.
const picture = form.querySelector('[data-picture="split"]');
let drawn;
function review() {
  const names = [...form.querySelectorAll("[name^='/variants/'][name$='/name']")].map((field) => field.value || "…");
  const shares = [...form.querySelectorAll("[data-split]")].map((field) => Number(field.value) || 0);
  clearTimeout(drawn);
  drawn = setTimeout(() => {
    const sum = shares.reduce((one, other) => one + other, 0);
    picture.dataset.load = `/dashboard/split?variants=${encodeURIComponent(JSON.stringify(names.map((name, place) => [name, sum ? shares[place] / sum : 0])))}`;
    begin(picture.parentElement);
  }, 250);
  const text = (name) => form.elements[name]?.value;
  form.querySelector("[data-review]").textContent =
    `${names.join(", ")} for ${text("/traffic_percentage") || 0} % of ${rule.value ? "those whom the conditions match" : "everybody"}; ` +
    `judged by ${text("/primary_metric") || "any event"}${text("/plan/planned_users") ? `, planned for ${text("/plan/planned_users")} users` : ", at any time"}.`;
}
form.addEventListener("input", review);
review();

document.querySelector("[data-plan]").addEventListener("submit", async (event) => {
  event.preventDefault();
  const asked = new URLSearchParams(new FormData(event.target));
  asked.set("variants", form.querySelectorAll("[data-split]").length || 2);
  asked.set("stopping", form.elements["/plan/stopping"].value || "group_sequential");
  asked.set("alpha", form.elements["/plan/alpha"].value || 0.05);
  const answer = await fetch(`/dashboard/plan?${asked}`, { headers: { Accept: "text/html" } });
  const found = new DOMParser().parseFromString(await answer.text(), "text/html");
  const place = document.getElementById("plan");
  if (answer.ok) place.replaceChildren(...found.body.childNodes);
  else place.replaceChildren(Object.assign(document.createElement("p"), { className: "fault", textContent: found.querySelector("main p:not(.big)")?.textContent ?? "This cannot be planned." }));
});
