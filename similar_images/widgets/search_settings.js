// Search settings; each is a trait of the same name.

let count = 0;

function labelled(text, title, input, ...after) {
  input.id = `si-setting-${++count}`;
  return make("span", { className: "si-setting", title }, make("label", { textContent: text, htmlFor: input.id }), input, ...after);
}

function render({ model, el }) {
  const synced = [];

  // Keeps an input and a trait equal, from the event on that says so; `get` and `set` are the input's.
  function sync(name, input, get, set, event = "change") {
    const update = () => set(model.get(name));
    update();
    input.addEventListener(event, () => {
      model.set(name, get());
      model.save_changes();
    });
    model.on(`change:${name}`, update);
    synced.push([`change:${name}`, update]);
    return input;
  }

  function range(name, text, title, max, step = 1, min = 1) {
    const input = make("input", { type: "range", min, max, step });
    const value = make("output");
    const showValue = () => (value.textContent = input.value === "0" ? "off" : Number(input.value).toLocaleString());
    input.addEventListener("input", showValue);
    sync(name, input, () => Number(input.value), (fresh) => {
      input.value = fresh;
      showValue();
    });
    input.ariaLabel = text;
    return labelled(text, title, input, value);
  }

  // A slider between two named ends; the results follow while it is dragged.
  function dial(name, text, title, ends, most, step) {
    const input = make("input", { type: "range", min: -most, max: most, step, ariaLabel: `${text}: ${ends.join(" or ")}` });
    const showValue = () => (input.ariaValueText = `${input.value}, from ${-most}, ${ends[0]}, to ${most}, ${ends[1]}`);
    input.addEventListener("input", showValue);
    const set = (fresh) => {
      input.value = fresh;
      showValue();
    };
    sync(name, input, () => Number(input.value), set, "input");
    const [left, right] = ends.map((textContent) => make("span", { className: "si-hint", textContent }));
    const setting = labelled(text, title, input, right);
    input.before(left);
    setting.classList.add("si-dial");
    return setting;
  }

  function check(name, text, title, on = true, off = false) {
    const input = make("input", { type: "checkbox" });
    sync(name, input, () => (input.checked ? on : off), (fresh) => (input.checked = fresh));
    return make("label", { title, className: "si-setting" }, input, ` ${text}`);
  }

  function status(name) {
    const element = make("span", { className: "si-note", role: "status" });
    const update = () => (element.textContent = model.get(name));
    update();
    model.on(`change:${name}`, update);
    synced.push([`change:${name}`, update]);
    return element;
  }

  const folder = make("select", { className: "si-field" });
  folder.append(make("option", { value: "*", textContent: "all folders" }));
  folder.append(...model.get("folders").map((name) => make("option", { value: `/${name}`, textContent: name || "(no folder)" })));
  sync("folder", folder, () => (folder.value === "*" ? null : folder.value.slice(1)), (fresh) => {
    folder.value = fresh === null ? "*" : `/${fresh}`;
  });
  const pattern = make("input", { type: "search", className: "si-field", placeholder: "part of a name, or sunset*", size: 20 });
  sync("pattern", pattern, () => pattern.value, (fresh) => (pattern.value = fresh));
  onEnter(pattern, () => pattern.dispatchEvent(new Event("change")));

  el.classList.add("si-settings");
  keepKeys(el);
  el.append(range("k", "Results", "how many photos to show", model.get("max_k")));
  if (model.get("can_focus")) {
    const title = "to the left, the same photo though it was changed; to the right, other photos of the same kind of thing";
    el.append(dial("focus", "Look for", title, ["the same photo", "the same kind"], 0.3, 0.1));
  }
  const neighbours = model.get("neighbours");
  if (neighbours) {
    const title = "search again by your photo and its nearest neighbours, which finds more of its kind; the first result stays first";
    el.append(check("expand", `Query expansion by the first ${neighbours} results`, title, neighbours, 0));
  }
  if (model.get("folders").length > 1) el.append(labelled("Folder", "search only there", folder));
  el.append(
    labelled("Name", "search only photos with such a name; * and ? stand for anything", pattern),
    range("suppress_near_duplicates", "Hide near-duplicates", "leave out photos within this distance of a better one; 0 hides none", 0.5, 0.01, 0),
    range("min_similarity", "Least similarity", "leave out photos less similar than this; 0 leaves out none", 0.95, 0.05, 0),
    check("show_scores", "Show scores", "always show rank and similarity, not only under the pointer"),
  );

  const inside = make("div", { className: "si-inside" });
  const details = make("details", {}, make("summary", { textContent: "Search settings" }), inside);
  const compared = model.get("compared");
  if (model.get("nlist")) {
    inside.append(
      make("p", {
        textContent:
          "The index has an inverted list per cluster of photos. A search scans the lists nearest to the query, estimates " +
          `distances from PQ codes${compared && `, and re-ranks the best candidates ${compared}`}. ` +
          "More of either raises recall and takes longer.",
      }),
      range("nprobe", "Inverted lists to search", "nprobe", model.get("nlist")),
    );
    const least = compared === "exactly" ? 0 : 10;
    if (compared) inside.append(range("rerank", `Candidates to re-rank ${compared}`, "more of them raise recall", Math.min(1000, model.get("n")), 10, least));
  } else inside.append(make("p", { textContent: "This gallery is small enough to compare every photo: its results are exact." }));
  const all = compared === "exactly" ? "an exact search" : "a search of all photos";
  const compare = button(`Compare with ${all}`, "compare the query with every photo", () => model.send({ kind: "compare" }));
  inside.append(make("p", {}, status("cost")), make("p", {}, compare, " ", status("agreement")));
  el.append(details);
  return () => synced.forEach(([event, update]) => model.off(event, update));
}

export default { render };
