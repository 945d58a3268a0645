// The invitation is in the fragment, which browsers keep to themselves: it is in no log and no referrer.
const form = document.getElementById("setup");
const answer = document.getElementById("answer");
const secret = location.hash.slice(1);
history.replaceState(null, "", location.pathname);

if (!secret) {
  form.hidden = true;
  answer.textContent = "This page needs the whole link of an invitation; ask an admin for one.";
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const fields = Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
  const response = await fetch("/auth/invitation", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ secret, ...fields }),
  });
  const content = await response.json();
  if (response.ok) {
    form.hidden = true;
    answer.textContent = `Done: ${content.email} can sign in now.`;
  } else {
    answer.textContent = (content.errors ?? [{ message: content.detail }]).map((fault) => fault.message).join("; ");
  }
});
