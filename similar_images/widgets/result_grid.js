// The grid of hits, and the dialog that shows one of them large. Pictures are requested when tiles need them.

const AT_A_TIME = 24;

function bar(hit) {
  const text = `similarity ${hit.similarity.toFixed(3)} to ${hit.to}, distance ${hit.distance.toFixed(3)}`;
  const part = make("i");
  part.style.width = `${Math.max(0, hit.similarity) * 100}%`;
  return make("div", { className: "si-bar", role: "img", ariaLabel: text, title: text }, part);
}

function tile(hit, model, look) {
  const image = make("img", { alt: hit.name });
  const open = button("", `${hit.name}: search on from here`, () => model.send({ kind: "search", row: hit.row }), {
    className: "si-open",
    ariaLabel: `Search from ${hit.name}`,
  });
  open.append(image);
  const marks = [true, false].map((relevant) =>
    button(relevant ? "+" : "−", relevant ? "more like this" : "less like this", () => model.send({ kind: "mark", row: hit.row, relevant }), {
      ariaLabel: `${relevant ? "More" : "Less"} like ${hit.name}`,
    }),
  );
  const closer = button("⤢", "look closer", () => look(hit), { ariaLabel: `Look closer at ${hit.name}` });
  const actions = make("div", { className: "si-actions" }, ...marks, closer);
  const score = make("span", { className: "si-score" });
  const element = make("li", { className: "si-tile" }, open, actions, shortened(hit.name, ""), score);
  const update = (fresh, relevant) => {
    Object.assign(hit, fresh);
    marks.forEach((each, at) => (each.ariaPressed = String(at === 0 ? relevant.has(hit.row) : false)));
    score.textContent = `${hit.rank} · ${hit.similarity.toFixed(3)}`;
    element.querySelector(".si-bar")?.remove();
    score.before(bar(hit));
  };
  const picture = (bytes, reason) => {
    if (reason) open.replaceChildren(make("span", { className: "si-reason", textContent: reason }));
    else show(image, bytes);
  };
  return { element, hit, update, picture, pictured: false };
}

// One tile at a time is in the order of the Tab key; arrow keys go from tile to tile.
function roving(list) {
  const all = () => [...list.children];
  const setCurrent = (current) => {
    for (const each of all()) each.querySelectorAll("button").forEach((part) => (part.tabIndex = each === current ? 0 : -1));
  };
  list.addEventListener("focusin", (event) => setCurrent(event.target.closest("li")));
  list.addEventListener("keydown", (event) => {
    const tiles = all();
    const at = tiles.indexOf(event.target.closest("li"));
    const columns = Math.max(1, tiles.findIndex((each) => each.offsetTop > tiles[0].offsetTop));
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns, Home: -at, End: tiles.length - 1 - at };
    const sign = { "+": "More", "-": "Less" }[event.key];
    if (event.key in steps) tiles[at + steps[event.key]]?.querySelector("button").focus();
    else if (sign) tiles[at].querySelector(`button[aria-label^="${sign} like"]`).click();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return setCurrent;
}

function facts(hit) {
  const rows = [
    ["name", hit.name],
    ["path", hit.path],
    ["size", hit.size],
    ["rank", hit.rank],
    ["similarity", `${hit.similarity.toFixed(4)} to ${hit.to}`],
    ["distance", hit.distance.toFixed(4)],
  ];
  return make("dl", {}, ...rows.flatMap(([name, value]) => [make("dt", { textContent: name }), make("dd", { textContent: value })]));
}

// The dialog for one hit, beside the query.
function closer(model, el, neighbour) {
  let hit = null;
  let plain = [];
  const images = [make("img"), make("img")];
  const captions = [make("figcaption"), make("figcaption")];
  const figures = images.map((image, at) => make("figure", {}, image, captions[at]));
  const note = make("p", { className: "si-note", role: "status" });
  const about = make("div");
  const why = button("Why this?", "show the regions that made the two similar", () => {
    if (why.ariaPressed === "true") return shown(plain, false);
    note.textContent = "computing the regions …";
    model.send({ kind: "explain", row: hit.row });
  });
  const act = (kind, more = {}) => () => {
    model.send({ kind, row: hit.row, ...more });
    dialog.close();
  };
  const row = make(
    "div",
    { className: "si-row" },
    button("◀", "the previous hit (arrow key)", () => step(-1), { ariaLabel: "Previous hit" }),
    button("▶", "the next hit (arrow key)", () => step(1), { ariaLabel: "Next hit" }),
    why,
    button("Search from here", "", act("search")),
    button("More like this", "", act("mark", { relevant: true })),
    button("Less like this", "", act("mark", { relevant: false })),
    button("Close", "(Escape)", () => dialog.close()),
  );
  const dialog = make("dialog", { className: "si-dialog", ariaLabel: "A closer look" }, make("div", { className: "si-pair" }, ...figures), note, row, about);
  dialog.onkeydown = (event) => {
    if (event.key === "ArrowLeft") step(-1);
    else if (event.key === "ArrowRight") step(1);
    if (event.key !== "Tab") event.stopPropagation();
  };
  el.append(dialog);

  function step(by) {
    const next = neighbour(hit, by);
    if (next) open(next);
  }
  function shown(buffers, explained) {
    buffers.forEach((bytes, at) => show(images[at], bytes));
    why.ariaPressed = String(explained);
    note.textContent = explained
      ? "Bright: regions of the encoder's last layer that add most to the similarity of these two photos. An aid to explain a match, not a measurement."
      : "";
  }
  function open(chosen) {
    hit = chosen;
    model.send({ kind: "look", row: hit.row });
  }
  return {
    open,
    look(content, buffers) {
      if (hit?.row !== content.row) return; // requested by another view
      hit = { ...hit, ...content };
      plain = buffers;
      shown(buffers, false);
      [content.query, hit.name].forEach((name, at) => {
        images[at].alt = name;
        captions[at].replaceChildren(make("b", { textContent: at ? "Result" : "Query" }), shortened(name, ""));
      });
      note.textContent = content.reason;
      about.replaceChildren(facts(hit));
      if (!dialog.open) dialog.showModal();
    },
    explained(content, buffers) {
      if (hit?.row === content.row) shown(buffers, true);
    },
    failed(content) {
      note.textContent = content.sentence;
    },
  };
}

function render({ model, el }) {
  const list = make("ul", { className: "si-grid", ariaLabel: "Similar photos" });
  const more = button("Show more", "", () => model.send({ kind: "more" }), { hidden: true });
  const tiles = new Map(); // by row
  const setCurrent = roving(list);
  const dialog = closer(model, el, ({ row }, by) => {
    const rows = [...tiles.keys()];
    return tiles.get(rows[rows.indexOf(row) + by])?.hit;
  });
  el.classList.add("si-results");
  keepKeys(el);
  const caption = make("p", { className: "si-hint" });
  el.append(caption, list, make("div", { className: "si-row" }, more));

  function requestPictures() {
    const rows = [...tiles.values()].filter((each) => !each.pictured).map((each) => each.hit.row);
    if (rows.length) model.send({ kind: "pictures", rows: rows.slice(0, AT_A_TIME) });
  }

  const showScores = () => list.classList.toggle("si-show-scores", model.get("show_scores"));
  showScores();
  model.on("change:show_scores", showScores);

  const stop = receive(model, {
    hits({ hits, relevant, more: isMore, to }) {
      caption.textContent = hits.length ? `Similarity to ${to}` : "";
      const at = [...list.children].indexOf(document.activeElement?.closest?.("li"));
      const before = new Map(tiles);
      const marked = new Set(relevant);
      tiles.clear();
      for (const hit of hits) {
        const each = before.get(hit.row) ?? tile(hit, model, dialog.open);
        each.update({ ...hit, to }, marked);
        tiles.set(hit.row, each);
      }
      list.replaceChildren(...[...tiles.values()].map((each) => each.element));
      more.hidden = !isMore;
      const current = list.children[Math.max(0, Math.min(at, hits.length - 1))];
      if (current) setCurrent(current);
      if (at >= 0) current?.querySelector("button").focus({ preventScroll: true });
      requestPictures();
    },
    pictures({ rows, reasons }, buffers) {
      for (const [at, row] of rows.entries()) {
        const each = tiles.get(row);
        if (!each || each.pictured) continue;
        each.picture(buffers[at], reasons[at]);
        each.pictured = true;
      }
      requestPictures();
    },
    look: dialog.look,
    explained: dialog.explained,
    failed: dialog.failed,
  });
  return () => {
    stop();
    model.off("change:show_scores", showScores);
  };
}

export default { render };
