// Export of the hits, and the Python that repeats the search.

const FORMATS = [
  ["csv", "CSV", "the hits as a table"],
  ["json", "JSON", "the hits for programs"],
  ["png", "Contact sheet", "the hits on one picture"],
  ["py", "Python", "the code that repeats this search"],
];

function render({ model, el }) {
  const code = make("pre", { tabIndex: 0, ariaLabel: "Python that repeats this search" });
  const copied = make("span", { role: "status" });
  const failure = make("span", { className: "si-error", role: "alert", hidden: true });
  const copy = button("Copy", "", async () => {
    await navigator.clipboard.writeText(code.textContent);
    copied.textContent = " copied";
  });
  const shown = make("div", { hidden: true }, code, copy, copied);
  const row = make("div", { className: "si-row" }, make("span", { className: "si-hint", textContent: "Export:" }));
  for (const [format, label, title] of FORMATS) {
    row.append(
      button(label, title, () => {
        failure.hidden = true;
        model.send({ kind: "export", format });
      }),
    );
  }
  row.append(failure);
  el.classList.add("si-export");
  keepKeys(el);
  el.append(row, shown);
  return receive(model, {
    file({ name, type }, [bytes]) {
      const address = URL.createObjectURL(new Blob([bytes], { type }));
      make("a", { href: address, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10_000);
    },
    code({ text }) {
      code.textContent = text;
      copied.textContent = "";
      shown.hidden = false;
    },
    failed({ sentence }) {
      failure.textContent = sentence;
      failure.hidden = false;
    },
    visible({ visible }) {
      el.hidden = !visible;
    },
  });
}

export default { render };
