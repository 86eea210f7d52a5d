// How to search: how many, among which, and how thoroughly; each setting is a trait of the same name.

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
    const say = () => (value.textContent = input.value === "0" ? "off" : Number(input.value).toLocaleString());
    input.addEventListener("input", say);
    sync(name, input, () => Number(input.value), (fresh) => {
      input.value = fresh;
      say();
    });
    input.ariaLabel = text;
    return labelled(text, title, input, value);
  }

  // Between two ends that are said in words; the result follows while it is dragged.
  function dial(name, text, title, ends, most, step) {
    const input = make("input", { type: "range", min: -most, max: most, step, ariaLabel: `${text}: ${ends.join(" or ")}` });
    const say = () => (input.ariaValueText = `${input.value}, from ${-most}, ${ends[0]}, to ${most}, ${ends[1]}`);
    input.addEventListener("input", say);
    const set = (fresh) => {
      input.value = fresh;
      say();
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

  function said(name) {
    const element = make("span", { className: "si-said", role: "status" });
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
  el.append(range("k", "Results", "how many photos to show", model.get("most")));
  if (model.get("can_focus")) {
    const title = "to the left, the same photo though it was changed; to the right, other photos of the same kind of thing";
    el.append(dial("focus", "Look for", title, ["the same photo", "the same kind"], 0.3, 0.1));
  }
  const neighbours = model.get("neighbours");
  if (neighbours) {
    const title = "search again by your photo and the photos most similar to it, which finds more of its kind; the first result stays first";
    el.append(check("expand", `search by the first ${neighbours} results too`, title, neighbours, 0));
  }
  if (model.get("folders").length > 1) el.append(labelled("Folder", "search only there", folder));
  el.append(
    labelled("Name", "search only photos with such a name; * and ? stand for anything", pattern),
    range("suppress_near_duplicates", "Hide near-duplicates", "leave out photos nearer than this distance to a better one; 0 hides none", 0.5, 0.01, 0),
    range("min_similarity", "Least similarity", "leave out photos less similar than this; 0 leaves out none", 0.95, 0.05, 0),
    check("numbers", "numbers", "show rank and similarity always, not only under the pointer"),
  );

  const inside = make("div", { className: "si-inside" });
  const details = make("details", {}, make("summary", { textContent: "How it searches" }), inside);
  const compared = model.get("compared");
  if (model.get("nlist")) {
    inside.append(
      make("p", {
        textContent:
          "The index sorted the photos into lists by what they look like. A search looks into the lists nearest to the query, " +
          `estimates distances from short codes${compared && `, and compares the best candidates ${compared}`}. ` +
          "More of either misses less and takes longer.",
      }),
      range("nprobe", "Lists to look into", "nprobe", model.get("nlist")),
    );
    const least = compared === "exactly" ? 0 : 10;
    if (compared) inside.append(range("rerank", `Candidates to compare ${compared}`, "more of them miss less", Math.min(1000, model.get("n")), 10, least));
  } else inside.append(make("p", { textContent: "This gallery is small enough to compare every photo: its results are exact." }));
  const all = compared === "exactly" ? "an exact search" : "a search of all photos";
  const compare = button(`Compare with ${all}`, "compare the query to every photo", () => model.send({ kind: "compare" }));
  inside.append(make("p", {}, said("cost")), make("p", {}, compare, " ", said("agreement")));
  el.append(details);
  return () => synced.forEach(([event, update]) => model.off(event, update));
}

export default { render };
