// Shows that the kernel has ended, where buttons would do nothing and ipywidgets would draw broken links.

const CHECK_INTERVAL_MS = 2000; // at least, between two checks of the kernel
const CLOSED = "This page was closed after some minutes without use. Reload it to go on.";
const UNREACHABLE = "The server can't be reached. Once it is back, reload this page to go on.";
const LOST = "This page has lost its kernel. Reload it to go on.";
const LOST_IN_NOTEBOOK = "The kernel of this panel has ended. Run the cell again to go on.";

// In an app: a dialog, which is seen wherever the visitor has scrolled to.
function dialogIn(el) {
  const text = make("p");
  const reload = button("Reload the page", "", () => location.reload());
  const dialog = make("dialog", { className: "si-dialog", ariaLabel: "This page has ended" }, text, make("p", {}, reload));
  el.append(dialog);
  return {
    open(sentence) {
      text.textContent = sentence;
      if (!dialog.open) dialog.showModal();
    },
    close: () => dialog.close(),
  };
}

// Checks the kernel whenever the page is used again: one that was culled sends no message.
function watch(address, dialog, signal) {
  let checkedAt = -CHECK_INTERVAL_MS;
  async function check() {
    if (document.hidden || performance.now() < checkedAt + CHECK_INTERVAL_MS) return;
    checkedAt = performance.now();
    const status = await fetch(address, { signal }).then((answer) => answer.status, () => 0);
    if (signal.aborted) return;
    if (status === 200) dialog.close();
    else dialog.open(status ? CLOSED : UNREACHABLE);
  }
  for (const event of ["focus", "pageshow", "online"]) window.addEventListener(event, check, { signal });
  for (const event of ["visibilitychange", "click", "keydown"]) document.addEventListener(event, check, { signal });
}

function render({ model, el }) {
  const { baseUrl, kernelId } = JSON.parse(document.getElementById("jupyter-config-data")?.textContent ?? "{}");
  const ending = new AbortController();
  const { signal } = ending;
  el.classList.add("si-kernel-watch");
  const dialog = kernelId && dialogIn(el); // Voila names it, Jupyter does not
  const lost = () => {
    ending.abort();
    el.closest(".similar-images")?.classList.add("si-ended");
    if (dialog) dialog.open(LOST);
    else el.replaceChildren(make("p", { className: "si-error", role: "alert", textContent: LOST_IN_NOTEBOOK }));
  };
  model.on("comm_live_update", lost);
  if (dialog) watch(`${baseUrl}api/kernels/${kernelId}`, dialog, signal);
  return () => {
    ending.abort();
    model.off("comm_live_update", lost);
  };
}

export default { render };
