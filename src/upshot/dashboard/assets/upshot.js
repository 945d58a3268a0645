// What the pages do beyond showing: send forms and actions to the API, load parts, refresh, explain marks. Nothing is computed here.
import { fill, send } from "./sending.js";

const main = document.getElementById("main");
const notice = document.getElementById("notice");

export function say(text) {
  notice.replaceChildren(Object.assign(document.createElement("p"), { textContent: text }));
  setTimeout(() => notice.replaceChildren(), 6000);
}

// Actions and forms: `data-send="POST /experiments"`, `data-then` is where to go afterwards.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.send) return;
  event.preventDefault();
  await act(form, event.submitter);
});
document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-send]");
  if (!button) return;
  if (button.dataset.confirm && !confirm(button.dataset.confirm)) return;
  await act(button, button);
});

async function act(from, button) {
  if (button) button.disabled = true;
  try {
    const answer = await send(from, button);
    if (!answer.ok) return answer.faults || say(answer.detail);
    if (answer.status === 202) say("This waits for a second person now.");
    const sent = new CustomEvent("sent", { bubbles: true, cancelable: true, detail: answer.content });
    if (!from.dispatchEvent(sent)) return;
    const told = button?.dataset.reveal ?? from.dataset.reveal;
    if (told) return reveal(answer.content, told);
    const then = button?.dataset.then ?? from.dataset.then;
    if (then !== undefined) location.assign(fill(then, answer.content) || location.href);
  } finally {
    if (button) button.disabled = false;
  }
}

// What is shown once. Invitations and shared results are links.
const LINKS = { invitation: "/setup#", path: "" };
function reveal(content, name) {
  const place = document.getElementById("reveal");
  const text = [content[name]].flat().join("\n");
  document.getElementById("revealed").textContent = name in LINKS ? location.origin + LINKS[name] + text : text;
  place.hidden = false;
  place.scrollIntoView({ block: "center" });
}

// Parts that come later, one after another: a server with two cores has better things to do than twenty results at once.
const waiting = [];
let loading = false;
function later(part) {
  waiting.push(part);
  if (!loading) next();
}
async function next() {
  loading = true;
  for (let part; (part = waiting.shift()); ) {
    if (part.isConnected) await load(part);
  }
  loading = false;
}
async function load(part) {
  const answer = await fetch(part.dataset.load, { headers: { Accept: "text/html" } }).catch(() => null);
  if (answer?.status === 429) {
    await new Promise((resume) => setTimeout(resume, 1000 * (answer.headers.get("Retry-After") ?? 1)));
    return load(part);
  }
  if (!answer?.ok) {
    part.textContent = "This cannot be shown now.";
  } else {
    const found = new DOMParser().parseFromString(await answer.text(), "text/html");
    const others = found.querySelector("template[data-parts]");
    for (const other of others?.content.children ?? []) {
      part.parentElement.querySelector(`[data-part="${other.dataset.part}"]`)?.replaceChildren(...other.childNodes);
    }
    others?.remove();
    part.replaceChildren(...found.head.childNodes, ...found.body.childNodes);
  }
  part.removeAttribute("aria-busy");
}
export function begin(root) {
  for (const part of root.querySelectorAll("[data-load]")) later(part);
}
begin(document);

// A page that shows what is under way asks again, while somebody looks: what is open stays open, what has focus keeps it.
const seconds = Number(main.dataset.refresh);
if (seconds) setInterval(refresh, seconds * 1000);
async function refresh() {
  if (document.hidden || document.querySelector(":popover-open")) return;
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer?.ok || answer.redirected) return;
  const found = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = found.getElementById(old.id);
    if (!fresh || fresh.innerHTML === old.innerHTML || old.contains(document.activeElement)) continue;
    old.replaceChildren(...fresh.childNodes);
    begin(old);
    for (const part of document.querySelectorAll("[data-live-load]")) later(part);
  }
}

// Events as they come, the newest on top; only from now on, and only while somebody looks.
const TAIL = 2000, LINES = 200;
const tail = document.querySelector("[data-tail]");
if (tail) follow(null);
async function follow(after) {
  if (!document.hidden) {
    const asked = after === null ? "limit=10" : `limit=50&after=${encodeURIComponent(after)}`;
    const answer = await fetch(`${tail.dataset.tail}?${asked}`).catch(() => null);
    if (answer?.ok) {
      const found = await answer.json();
      if (found.events.length) tail.querySelector(".muted")?.remove();
      for (const each of found.events) {
        const line = document.createElement("div");
        line.textContent = `${each.received_at.slice(11, 19)} ${each.event_type} ${each.user_id} ${JSON.stringify(each.properties)}`;
        tail.prepend(line);
      }
      while (tail.children.length > LINES) tail.lastChild.remove();
      after = found.after ?? after;
    }
  }
  setTimeout(() => follow(after), TAIL);
}

// Themes: the system's, until somebody chooses.
document.querySelector("[data-theme-switch]").addEventListener("click", () => {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const now = document.documentElement.dataset.theme ?? (dark ? "dark" : "light");
  document.documentElement.dataset.theme = now === "dark" ? "light" : "dark";
  localStorage.setItem("theme", document.documentElement.dataset.theme);
});

// What a mark stands for.
const tip = Object.assign(document.createElement("div"), { id: "tip", hidden: true });
document.body.append(tip);
function explain(mark) {
  tip.hidden = !mark;
  if (!mark) return;
  tip.textContent = mark.dataset.tip;
  const place = mark.getBoundingClientRect();
  tip.style.left = `${Math.min(place.right + 8, innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${Math.max(8, place.top - tip.offsetHeight - 6)}px`;
}
document.addEventListener("pointerover", (event) => explain(event.target.closest?.("[data-tip]")));
document.addEventListener("focusin", (event) => explain(event.target.closest?.("[data-tip]")));
document.addEventListener("focusout", () => explain(null));

// Keys: / searches, j and k walk through a list.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, [popover]")) return;
  const field = document.querySelector(`[data-shortcut="${CSS.escape(event.key)}"]`);
  if (field) {
    event.preventDefault();
    field.focus();
  }
  const links = [...document.querySelectorAll("[data-rows] th a")];
  const step = { j: 1, k: -1 }[event.key];
  if (step && links.length) links[Math.max(0, Math.min(links.length - 1, links.indexOf(document.activeElement) + step))].focus();
});
document.addEventListener("change", (event) => {
  if (event.target.matches("[data-filter] select")) event.target.form.requestSubmit();
});
document.addEventListener("formdata", (event) => {
  if (!event.target.matches("[data-filter]")) return;
  for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name); // a short address
});
document.addEventListener("click", (event) => {
  if (event.target.closest("[data-print]")) print();
  const copied = event.target.closest("[data-copy]");
  if (copied) navigator.clipboard.writeText(document.getElementById(copied.dataset.copy).textContent).then(() => say("Copied."));
});

const secret = document.querySelector("form[data-secret]");
if (secret) {
  // The invitation is in the fragment, which browsers keep to themselves: it is in no log and no referrer.
  secret.dataset.secret = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  if (!secret.dataset.secret) {
    secret.replaceChildren(
      Object.assign(document.createElement("p"), { textContent: "This page needs the whole link of an invitation; ask an admin for one." }),
    );
  }
  secret.addEventListener("sent", async (event) => {
    const password = secret.elements["/password"].value;
    await fetch("/auth/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ email: event.detail.email, password, client: event.detail.client }),
    });
    location.assign("/");
  });
}
