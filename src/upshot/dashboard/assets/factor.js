// Signing in with a second factor: a code is asked for when the server wants one, a secret is shown where there is none yet, and
// recovery codes when the first code has confirmed it.
const form = document.querySelector("form[data-factor]");
const part = (name) => form.querySelector(`[data-${name}]`);

function ask() {
  part("code").hidden = false;
  const field = part("code").querySelector("input");
  field.disabled = false;
  field.value = "";
  field.focus();
}

form?.addEventListener("refused", ({ detail }) => {
  if (detail.code === "second_factor_needed") ask();
  if (detail.code === "second_factor_missing") {
    form.dataset.send = "POST /auth/factor";
    form.requestSubmit();
  }
});

form?.addEventListener("sent", (event) => {
  const { secret, uri, qr, recovery_codes: codes } = event.detail;
  if (!secret && !codes?.length) return;
  event.preventDefault(); // there is something to read before the browser goes on
  if (secret) {
    form.dataset.send = "POST /auth/session";
    part("qr").src = qr;
    part("uri").href = uri;
    part("secret").textContent = secret.match(/.{4}/g).join(" ");
    part("shown").hidden = false;
    ask();
  } else {
    document.getElementById("recovery").textContent = codes.join("\n");
    document.querySelector("[data-recovery]").hidden = false;
    form.hidden = true;
  }
});
