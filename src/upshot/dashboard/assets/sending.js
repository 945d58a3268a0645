// From a form to the API. A field's name is the JSON pointer of where its value goes, so that a fault finds its field again.

// The keys of what got no answer: it may have been done, and is not to be done twice.
const unanswered = new Map();
const letters = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");

export async function send(from, button) {
  const [method, path] = (button?.dataset.send ?? from.dataset.send).split(" ");
  const form = from instanceof HTMLFormElement ? from : null;
  if (form) clear(form);
  let content;
  try {
    content = form ? document_of(form) : JSON.parse(from.dataset.body ?? "null");
  } catch (fault) {
    return show(form, [fault]);
  }
  if (form?.dataset.secret) content.secret = form.dataset.secret;
  if (button?.name?.startsWith("/")) put(content, button.name.slice(1).split("/"), button.value);
  if (form?.dataset.patch !== undefined) content = changed(form, content);
  const token = document.querySelector('meta[name="csrf-token"]')?.content;
  const body = content === null ? undefined : JSON.stringify(content);
  const asked = `${path} ${body}`;
  const key = unanswered.get(asked) ?? letters();
  unanswered.set(asked, key);
  const headers = { "Content-Type": "application/json", "Idempotency-Key": key, ...(token ? { "X-CSRF-Token": token } : {}) };
  let answer;
  try {
    answer = await fetch(path, { method, headers, body });
  } catch {
    return show(form, [{ pointer: "", message: "The server did not answer. Send it again: it will be done once." }]);
  }
  const found = answer.status === 204 ? {} : await answer.json();
  if (found.code !== "under_way") unanswered.delete(asked);
  if (answer.ok) return { ok: true, status: answer.status, content: found };
  from.dispatchEvent(new CustomEvent("refused", { detail: found }));
  return show(form, found.errors?.length ? found.errors : [{ pointer: "", message: found.detail }], found.detail);
}

/** The document that a form stands for. `data-as`: json, number, list (comma separated), boolean; an empty field is left out. */
export function document_of(form) {
  const whole = form.querySelector('[data-as="document"]'); // a field that is the whole document
  if (whole) return value_of(whole);
  const content = {};
  for (const field of form.elements) {
    if (field.disabled || !(field.name?.startsWith("/") || field.dataset.control)) continue;
    if (field.type === "radio") {
      if (field.dataset.control) put(content, field.dataset.control.slice(1).split("/"), field.checked);
      else if (field.checked) put(content, field.name.slice(1).split("/"), field.value);
      continue;
    }
    if (field.type === "submit") continue;
    const value = value_of(field);
    if (value !== undefined) put(content, field.name.slice(1).split("/"), value);
  }
  for (const { dataset } of form.querySelectorAll("[data-rows-of]")) {
    content[dataset.rowsOf] = (content[dataset.rowsOf] ?? []).filter((each) => each !== undefined); // rows left empty
  }
  return content;
}

function value_of(field) {
  if (field.type === "checkbox") return field.dataset.as === "item" ? (field.checked ? field.value : undefined) : field.checked;
  const text = field.value;
  if (field.multiple) return [...field.selectedOptions].map((option) => option.value);
  if (text === "") return field.dataset.empty === undefined ? undefined : JSON.parse(field.dataset.empty);
  switch (field.dataset.as) {
    case "number":
      return Number(text);
    case "list":
      return text.split(",").map((part) => part.trim()).filter(Boolean);
    case "document":
    case "json":
      try {
        return JSON.parse(text);
      } catch {
        throw { pointer: field.name, message: "is not valid JSON" };
      }
    case "reference": // a definition, or a name, which may begin with a brace
      try {
        return text.trim().startsWith("{") ? JSON.parse(text) : text;
      } catch {
        return text;
      }
    default:
      return text;
  }
}

// What a form said when it was opened, by its top-level fields: only what was changed is sent again, null for what was taken out,
// and the version.
const opened = new WeakMap();
for (const form of document.querySelectorAll("form[data-patch]")) opened.set(form, JSON.parse(JSON.stringify(document_of(form))));
function changed(form, content) {
  const before = opened.get(form);
  const gone = Object.keys(before).filter((name) => !(name in content));
  const same = ([name, value]) => name !== "version" && JSON.stringify(value) === JSON.stringify(before[name]);
  return Object.fromEntries([...Object.entries(content).filter((field) => !same(field)), ...gone.map((name) => [name, null])]);
}

function put(content, path, value) {
  const [first, ...rest] = path;
  if (!rest.length) {
    if (first === "-") content.push(value);
    else content[first] = value;
    return;
  }
  content[first] ??= /^(-|\d+)$/.test(rest[0]) ? [] : {};
  put(content[first], rest, value);
}

function clear(form) {
  for (const old of form.querySelectorAll(".field-fault")) old.remove();
  for (const field of form.querySelectorAll("[aria-invalid]")) {
    field.removeAttribute("aria-invalid");
    field.removeAttribute("aria-describedby");
  }
  const whole = form.querySelector("p.fault[role=alert]");
  if (whole) whole.hidden = true;
}

/** Each fault at its field, or at the nearest one above it; what belongs to no field is said for the whole form. */
function show(form, faults, detail) {
  const others = [];
  let first;
  for (const fault of faults) {
    const field = form && nearest(form, fault.pointer);
    if (!field) {
      others.push(fault.pointer ? `${fault.pointer.slice(1)}: ${fault.message}` : fault.message);
      continue;
    }
    const text = Object.assign(document.createElement("small"), { className: "fault field-fault", textContent: fault.message });
    text.id = `fault${fault.pointer.replaceAll("/", "-")}`;
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", text.id);
    field.after(text);
    first ??= field;
  }
  const whole = form?.querySelector("p.fault[role=alert]");
  if (whole && others.length) {
    whole.textContent = others.join("; ");
    whole.hidden = false;
  }
  first?.focus();
  return { ok: false, detail: others.join("; ") || detail, faults: Boolean(form && (first || whole)) };
}

function nearest(form, pointer) {
  for (let path = pointer; path; path = path.slice(0, path.lastIndexOf("/"))) {
    const field = form.elements[path];
    if (field) return field instanceof RadioNodeList ? field[0] : field;
  }
  return null;
}

/** An address with `{name}` from the answer in it. */
export function fill(address, content) {
  return address.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(content[name]));
}
