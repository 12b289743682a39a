"use strict";
// The page's script: the theme, and the gallery. Everything that comes from a record is put into the
// page as text, never as HTML. The gallery's data come as scripts that call soarBench.board, one a
// board, since a page opened from disk may not read files.

const soarBench = (() => {
  const boards = new Map();
  return {
    boards,
    arrived: () => {},
    board(key, data) {
      boards.set(key, data);
      this.arrived(key);
    },
  };
})();

// ---- theme: the system's, until the reader chooses -------------------------------------------

const theme = {
  read() {
    try {
      return localStorage.getItem("soar-bench-theme");
    } catch {
      return null; // storage is closed to pages from disk in some browsers
    }
  },
  keep(name) {
    try {
      localStorage.setItem("soar-bench-theme", name);
    } catch {
      // then the choice lasts as long as the page
    }
  },
  dark: () => {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  },
};
if (["light", "dark"].includes(theme.read())) document.documentElement.dataset.theme = theme.read();

// ---- small helpers ---------------------------------------------------------------------------

const byId = (id) => document.getElementById(id);

/** An element with properties, attributes (names with a dash, role, for) and children. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== ""));
  return element;
}

function drawn(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return value.toFixed(size < 10 ? 3 : size < 100 ? 2 : 1).replace("-", "−");
}

/** A number with its sign; a small one with the digits that it takes to differ from 0. */
function signed(value) {
  const small = value && Math.abs(value) < 0.0005;
  const text = small ? value.toPrecision(2).replace("-", "−") : number(value);
  return (value > 0 ? "+" : "") + text;
}

// ---- the gallery -----------------------------------------------------------------------------

const DEFAULTS = {
  board: "", task: "", metric: 0, a: 0, b: 0, show: "all", sort: "suite", q: "", page: 1, size: 12,
  boxes: 1, seeds: 0,
};
const NUMBERS = ["metric", "a", "b", "page", "size", "boxes", "seeds"];

class Gallery {
  /** @param index of every board: its key, suite and protocol; data arrive board by board. */
  constructor(index) {
    this.index = index;
    this.state = { ...DEFAULTS };
    this.matching = [];
    this.shown = [];
    this.large = null;
  }

  get data() {
    return soarBench.boards.get(this.state.board);
  }

  // -- state and address --

  start() {
    this.listen();
    this.readHash();
    this.load();
  }

  readHash() {
    const hash = location.hash;
    const given = new URLSearchParams(hash.startsWith("#gallery?") ? hash.slice(9) : "");
    const state = { ...DEFAULTS };
    for (const name of Object.keys(state)) {
      if (!given.has(name)) continue;
      const value = given.get(name);
      state[name] = NUMBERS.includes(name) ? Number.parseInt(value, 10) || 0 : value;
    }
    if (!this.index.some((board) => board.key === state.board)) state.board = this.index[0].key;
    this.asked = given.has("b") || given.has("a");
    this.state = state;
  }

  writeHash() {
    const kept = new URLSearchParams();
    const usual = this.usual();
    for (const [name, value] of Object.entries(this.state)) {
      if (value !== usual[name]) kept.set(name, value);
    }
    const text = kept.toString();
    if (!text && !location.hash.startsWith("#gallery?")) return;
    history.replaceState(null, "", text ? `#gallery?${text}` : "#gallery");
  }

  /** The state without a choice: the second checkpoint of the board against the first. */
  usual() {
    const usual = { ...DEFAULTS, board: this.index[0].key };
    usual.a = this.data ? this.secondEntrant() : 0;
    return usual;
  }

  secondEntrant() {
    const found = this.data.checkpoints.findIndex((one) => one.entrant === 1);
    return found < 0 ? 0 : found;
  }

  /** Shows the chosen board once its data are there; an address that was given stays as it is. */
  load(given = true) {
    const key = this.state.board;
    this.given = given;
    if (soarBench.boards.has(key)) {
      this.opened();
      return;
    }
    byId("count").textContent = "Loading…";
    const script = make("script", { src: `data/${key}.js` });
    script.addEventListener("error", () => {
      byId("count").textContent = `data/${key}.js is missing: make the report again`;
    });
    document.head.append(script);
  }

  opened() {
    const { checkpoints, metrics, tasks } = this.data;
    const state = this.state;
    const within = (value, list) => value >= 0 && value < list.length;
    if (!this.asked || !within(state.a, checkpoints)) state.a = this.secondEntrant();
    if (!within(state.b, checkpoints)) state.b = 0;
    if (!within(state.metric, metrics)) state.metric = 0;
    if (!tasks.includes(state.task)) state.task = "";
    for (const id of ["show", "sort", "size"]) {
      const choices = [...byId(id).options].map((option) => option.value);
      if (!choices.includes(String(state[id]))) state[id] = DEFAULTS[id];
    }
    this.asked = true;
    this.fill();
    byId("filters").hidden = false;
    this.tellMissing();
    this.update(!this.given);
    if (this.given && location.hash.startsWith("#gallery?")) {
      byId("gallery").scrollIntoView({ behavior: "instant" });
    }
  }

  set(changes) {
    Object.assign(this.state, { page: 1 }, changes);
    this.update();
  }

  // -- controls --

  fill() {
    const { state, data, index } = this;
    const options = (id, choices, chosen) => {
      byId(id).replaceChildren(
        ...choices.map(([value, text]) => make("option", { value, textContent: text })),
      );
      byId(id).value = String(chosen);
    };
    const suites = [...new Set(index.map((board) => board.suite))];
    options("suite", suites.map((suite) => [suite, suite]), data.suite);
    const same = index.filter((board) => board.suite === data.suite);
    options("protocol", same.map((board) => [board.key, board.protocol]), state.board);
    const tasks = data.tasks.filter((task) => task);
    options("task", [["", "all"], ...tasks.map((task) => [task, task])], state.task);
    byId("task").disabled = !tasks.length;
    options("metric", data.metrics.map((metric, i) => [i, metric.name]), state.metric);
    const names = data.checkpoints.map((one, i) => [i, one.name]);
    options("a", names, state.a);
    options("b", names, state.b);
    byId("parted").hidden = !data.judges.length;
    byId("show").value = state.show;
    byId("sort").value = state.sort;
    byId("size").value = String(state.size);
    byId("search").value = state.q;
    byId("boxes").checked = Boolean(state.boxes);
    byId("seeds").checked = Boolean(state.seeds);
    byId("seeds-label").hidden = data.checkpoints.every((one) => one.first);
    byId("boxes").disabled = data.details.every((of) => Object.values(of).every((one) => !one.b));
  }

  listen() {
    const on = (id, event, act) => byId(id).addEventListener(event, act);
    const open = (key) => {
      this.state = { ...this.state, board: key, task: "", metric: 0, page: 1 };
      this.asked = false;
      this.load(false);
    };
    on("suite", "change", (event) => {
      open(this.index.find((board) => board.suite === event.target.value).key);
    });
    on("protocol", "change", (event) => open(event.target.value));
    for (const id of ["task", "show", "sort"]) {
      on(id, "change", (event) => this.set({ [id]: event.target.value }));
    }
    for (const id of ["metric", "a", "b", "size"]) {
      on(id, "change", (event) => this.set({ [id]: Number(event.target.value) }));
    }
    for (const id of ["boxes", "seeds"]) {
      on(id, "change", (event) =>
        this.set({ [id]: Number(event.target.checked), page: this.state.page }),
      );
    }
    on("search", "input", (event) => this.set({ q: event.target.value }));
    on("filters", "submit", (event) => event.preventDefault());
    on("reset", "click", (event) => {
      event.preventDefault();
      const board = this.state.board;
      this.state = { ...this.usual(), board };
      this.fill();
      this.update();
    });
    on("previous", "click", () => this.turn(-1));
    on("next", "click", () => this.turn(1));
    on("help-open", "click", () => byId("help").showModal());
    on("help-close", "click", () => byId("help").close());
    on("large-close", "click", () => byId("large").close());
    on("large", "close", () => this.closed());
    for (const id of ["large", "help"]) {
      on(id, "click", (event) => event.target === byId(id) && byId(id).close());
    }
    for (const link of document.querySelectorAll('.top nav a, .skip')) {
      link.addEventListener("click", (event) => {
        if (!location.hash.startsWith("#gallery?")) return;
        event.preventDefault(); // the address keeps the filters
        document.querySelector(link.hash).scrollIntoView();
      });
    }
    addEventListener("hashchange", () => {
      if (!location.hash.startsWith("#gallery?")) return;
      this.readHash();
      this.load();
    });
    addEventListener("keydown", (event) => this.key(event));
    soarBench.arrived = (key) => key === this.state.board && this.opened();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.data) return;
    const large = byId("large").open;
    if (byId("help").open) return;
    const typing = event.target.matches("input, select, textarea");
    if (typing) {
      if (event.key === "Escape" && event.target.id === "search") {
        this.set({ q: (event.target.value = "") });
        event.target.blur();
      }
      return;
    }
    const act = {
      "/": () => !large && byId("search").focus(),
      "?": () => byId("help").showModal(),
      "[": () => !large && this.turn(-1),
      "]": () => !large && this.turn(1),
      d: () => {
        if (!byId("boxes").disabled) byId("boxes").click();
        if (large) this.enlarge(...this.large);
      },
    }[event.key];
    const move = {
      ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
    }[event.key];
    if (act) {
      event.preventDefault();
      act();
    } else if (move && large) {
      event.preventDefault();
      this.step(...move);
    } else if (move && event.target.closest?.(".tile")) {
      event.preventDefault();
      this.walk(event.target.closest(".tile"), ...move);
    }
  }

  // -- which samples --

  columns() {
    const all = this.data.checkpoints.map((_, i) => i);
    if (this.state.seeds) return all;
    const { a, b } = this.state;
    return all.filter((i) => this.data.checkpoints[i].first || i === a || i === b);
  }

  value(checkpoint, sample) {
    return this.data.values[checkpoint][this.state.metric][sample];
  }

  /** How much better a is than b: positive is a win whatever the metric's direction. */
  gain(sample) {
    const { a, b, metric } = this.state;
    const [left, right] = [this.value(a, sample), this.value(b, sample)];
    if (left === null || right === null) return null;
    return this.data.metrics[metric].higher ? left - right : right - left;
  }

  unscored(sample) {
    const metric = this.state.metric;
    return this.data.unscored.some((of) => String(sample) in of[metric]);
  }

  /** Whether the two judges of a's image part; the pair of the metric that is chosen, if it has one. */
  parted(sample) {
    const { judges } = this.data;
    const pair = judges.find((one) => one.includes(this.state.metric)) ?? judges[0] ?? [];
    const [first, second] = pair.map((metric) => this.data.values[this.state.a][metric][sample]);
    return (first ?? null) !== null && (second ?? null) !== null && first !== second;
  }

  select() {
    const { data, state } = this;
    const words = state.q.toLowerCase().split(/\s+/).filter((word) => word);
    const hit = data.prompts.map(([id, text, task]) => {
      if (state.task && data.tasks[task] !== state.task) return false;
      const where = `${text}\n${id}`.toLowerCase();
      return words.every((word) => where.includes(word));
    });
    const passes = {
      all: () => true,
      wins: (sample) => this.gain(sample) > 0,
      losses: (sample) => (this.gain(sample) ?? 0) < 0,
      ties: (sample) => this.gain(sample) === 0,
      unscored: (sample) => this.unscored(sample),
      parted: (sample) => this.parted(sample),
    }[state.show];
    const found = [];
    data.samples.forEach(([prompt], sample) => {
      if (hit[prompt] && passes(sample)) found.push(sample);
    });
    const sign = data.metrics[state.metric].higher ? 1 : -1;
    const keys = {
      suite: null,
      change: (sample) => Math.abs(this.gain(sample)),
      gain: (sample) => this.gain(sample),
      loss: (sample) => -this.gain(sample),
      best: (sample) => sign * this.value(state.a, sample),
      worst: (sample) => -sign * this.value(state.a, sample),
    };
    const key = keys[state.sort];
    if (key) {
      const known = ["best", "worst"].includes(state.sort)
        ? (sample) => this.value(state.a, sample) !== null
        : (sample) => this.gain(sample) !== null;
      // What has no number comes last; equal ones stay in the suite's order.
      const ranks = new Map(found.map((s) => [s, known(s) ? key(s) : -Infinity]));
      found.sort((x, y) => (ranks.get(x) === ranks.get(y) ? 0 : ranks.get(y) - ranks.get(x)));
    }
    return found;
  }

  // -- what is shown --

  update(remember = true) {
    const { state, data } = this;
    this.matching = this.select();
    const pages = Math.max(1, Math.ceil(this.matching.length / state.size));
    state.page = Math.min(Math.max(1, state.page), pages);
    const first = (state.page - 1) * state.size;
    this.shown = this.matching.slice(first, first + state.size);
    const columns = this.columns().length;
    byId("cards").className = columns <= 2 ? "few" : columns <= 4 ? "some" : "";
    byId("cards").replaceChildren(...this.shown.map((sample) => this.card(sample)));
    const many = (count) => count.toLocaleString("en");
    byId("count").textContent =
      `${many(this.matching.length)} of ${many(data.samples.length)} samples` +
      (this.matching.length ? "" : ": nothing matches these filters");
    byId("page").textContent = `page ${state.page} of ${pages}`;
    byId("previous").disabled = state.page === 1;
    byId("next").disabled = state.page === pages;
    byId("pages").hidden = this.matching.length <= 8;
    if (remember) this.writeHash();
  }

  turn(by) {
    const before = this.state.page;
    this.state.page += by;
    this.update();
    if (this.state.page !== before) byId("count").scrollIntoView({ block: "start" });
  }

  tellMissing() {
    const { checkpoints, images, missing } = this.data;
    const items = [];
    let total = 0;
    checkpoints.forEach((checkpoint, c) => {
      const absent = images[c].filter((image) => typeof image === "number");
      if (!absent.length) return;
      total += absent.length;
      const reasons = [...new Set(absent)].map((image) => missing[image]);
      const silent = !checkpoint.command || reasons.every((reason) => reason.startsWith("left out"));
      items.push(
        make("div", {}, `${checkpoint.name}: ${absent.length} of ${images[c].length} ` +
          `(${reasons.slice(0, 2).join("; ")}).` + (silent ? "" : " This makes them again:"),
          silent ? null : make("code", { textContent: checkpoint.command })),
      );
    });
    const told = `${total.toLocaleString("en")} ${total === 1 ? "image is" : "images are"} not shown`;
    byId("missing").replaceChildren(
      make("details", {}, make("summary", { textContent: `${told}: which, and why` }), ...items),
    );
    byId("missing").hidden = !items.length;
  }

  card(sample) {
    const { data, state } = this;
    const [prompt, index] = data.samples[sample];
    const [id, text, task] = data.prompts[prompt];
    const gain = state.a === state.b ? null : this.gain(sample);
    const metric = data.metrics[state.metric];
    const about = [id, `image ${index + 1}`, data.tasks[task]].filter((part) => part);
    const words = make("p", { className: "about" }, about.join(" · "));
    if (gain !== null) {
      const change = metric.higher ? gain : -gain;
      const tone = gain > 0 ? "good" : gain < 0 ? "bad" : "";
      const verdict = gain > 0 ? "▲ win" : gain < 0 ? "▼ loss" : "tie";
      words.append(" · ", make("span", { className: tone }, `${verdict} ${signed(change)}`));
    }
    return make(
      "article",
      { className: "card", "data-sample": sample, "aria-label": text },
      make("h3", { textContent: text, dir: "auto" }),
      words,
      make("div", { className: "tiles" }, ...this.columns().map((c) => this.tile(sample, c))),
    );
  }

  tile(sample, c) {
    const { data, state } = this;
    const value = this.value(c, sample);
    const binary = data.metrics[state.metric].binary && value !== null;
    const tone = binary ? (value ? " right" : " wrong") : "";
    const button = make(
      "button",
      { type: "button", className: `tile${tone}`, "data-checkpoint": c },
      this.picture(sample, c, Boolean(state.boxes)),
      make("span", { className: "name", textContent: data.checkpoints[c].name }),
      ...this.scores(sample, c),
    );
    button.addEventListener("click", () => this.enlarge(sample, c));
    return button;
  }

  /** The chosen metric's score with its mark or reason, what was read, and the other scores. */
  scores(sample, c) {
    const { data, state } = this;
    const reason = data.unscored[c][state.metric][sample];
    const details = data.details[c][sample] ?? {};
    const lines = [];
    if (data.images[c][sample] === null) {
      lines.push(make("span", { className: "other" }, "not in this run"));
      return lines;
    }
    lines.push(
      reason === undefined
        ? make("span", { className: "value" }, ...this.marked(c, state.metric, sample))
        : make("span", { className: "reason" }, `unscored: ${reason}`),
    );
    if (details.t) lines.push(make("span", { className: "said" }, `reads “${details.t.join(" ")}”`));
    if (details.r) lines.push(make("span", { className: "said" }, details.r.join("; ")));
    data.metrics.forEach((metric, m) => {
      if (m === state.metric) return;
      const other = data.values[c][m][sample];
      const told = other === null ? ["unscored"] : this.marked(c, m, sample);
      lines.push(make("span", { className: "other" }, `${metric.name} `, ...told));
    });
    return lines;
  }

  marked(c, m, sample) {
    const value = this.data.values[c][m][sample];
    if (!this.data.metrics[m].binary || value === null) return [number(value)];
    return [
      value
        ? make("span", { className: "good" }, "✓ right")
        : make("span", { className: "bad" }, "✗ wrong"),
    ];
  }

  describe(sample, c) {
    const { data, state } = this;
    const [prompt] = data.samples[sample];
    const value = this.value(c, sample);
    const score = value === null ? "unscored" : number(value);
    const name = data.checkpoints[c].name;
    return `${data.prompts[prompt][1]} — ${name}, ${data.metrics[state.metric].name} ${score}`;
  }

  picture(sample, c, boxes, full = false) {
    const image = this.data.images[c][sample];
    if (!Array.isArray(image)) {
      const why = image === null ? "no such image in this run" : this.data.missing[image];
      return make("span", { className: "absent" }, `image missing: ${why}`);
    }
    const [thumbnail, whole, width, height] = image;
    const picture = make("img", {
      alt: this.describe(sample, c),
      className: Math.max(width, height) <= 160 ? "small" : "",
      decoding: "async",
      loading: full ? "eager" : "lazy",
      width,
      height,
    });
    const frame = make("span", { className: "frame" }, picture);
    picture.addEventListener("error", () => {
      frame.replaceWith(make("span", { className: "absent" }, "image missing: its file has gone"));
    });
    picture.src = `images/${full ? whole : thumbnail}`;
    const found = this.data.details[c][sample]?.b;
    if (boxes && found?.length) frame.append(this.boxes(found, width, height, full));
    return frame;
  }

  boxes(found, width, height, named) {
    const overlay = drawn("svg", {
      viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true",
    });
    const size = Math.max(width, height) / 24;
    for (const [label, color, score, left, top, right, bottom] of found) {
      const place = { x: left, y: top, width: Math.max(0, right - left),
        height: Math.max(0, bottom - top) };
      overlay.append(drawn("rect", { ...place, class: "halo" }), drawn("rect", place));
      if (!named) continue;
      const words = `${color ? `${color} ` : ""}${label}${score === null ? "" : ` ${score.toFixed(2)}`}`;
      const y = top > size * 1.2 ? top - size * 0.3 : Math.min(bottom + size, height - 1);
      overlay.append(drawn("text", { x: left, y, "font-size": size }, words));
    }
    return overlay;
  }

  // -- the large view --

  enlarge(sample, c) {
    const { data } = this;
    const [prompt, index] = data.samples[sample];
    const [id, text, task] = data.prompts[prompt];
    const checkpoint = data.checkpoints[c];
    const details = data.details[c][sample] ?? {};
    const image = data.images[c][sample];
    this.large = [sample, c];
    byId("large-title").textContent = text;
    byId("large-stage").replaceChildren(this.picture(sample, c, Boolean(details.b), true));
    const told = [make("h3", { textContent: checkpoint.name })];
    const place = [id, `image ${index + 1}`, data.tasks[task]].filter((part) => part).join(" · ");
    told.push(make("p", { className: "about", textContent: place }));
    const rows = data.metrics.map((metric, m) => {
      const reason = data.unscored[c][m][sample];
      const cell = reason === undefined ? this.marked(c, m, sample) : [`unscored: ${reason}`];
      return make("tr", {}, make("th", { scope: "row" }, metric.name),
        make("td", { className: reason === undefined ? "number" : "" }, ...cell),
        make("td", {}, metric.unit));
    });
    told.push(make("table", {}, make("tbody", {}, ...rows)));
    const list = (title, items) => {
      if (!items?.length) return;
      told.push(make("h3", { textContent: title }),
        make("ul", {}, ...items.map((item) => make("li", { textContent: item }))));
    };
    list("Recognised text", details.t);
    list("Rules broken", details.r);
    list("Detections", details.b?.map(([label, color, score, ...box]) =>
      `${color ? `${color} ` : ""}${label}${score === null ? "" : ` ${score.toFixed(2)}`} ` +
      `at ${box.map((edge) => Math.round(edge)).join(", ")}`));
    list("Details", details.o?.map(([metric, words]) => `${metric}: ${words}`));
    if (Array.isArray(image)) {
      const file = make("a", { href: `images/${image[1]}`, target: "_blank" }, "the file by itself");
      told.push(make("p", { className: "about" }, `${image[2]} × ${image[3]} pixels; `, file));
    } else if (checkpoint.command) {
      told.push(make("h3", { textContent: "This makes its images again" }),
        make("code", { textContent: checkpoint.command }));
    }
    byId("large-told").replaceChildren(...told);
    byId("large-strip").replaceChildren(...this.columns().map((other) => {
      const button = make("button", { type: "button", "aria-current": String(other === c) },
        this.picture(sample, other, false), data.checkpoints[other].name);
      button.addEventListener("click", () => this.enlarge(sample, other));
      return button;
    }));
    if (!byId("large").open) byId("large").showModal();
    byId("large").scrollTop = 0;
    const current = byId("large-strip").querySelector('[aria-current="true"]');
    if (current) byId("large-strip").scrollLeft = current.offsetLeft - current.offsetWidth;
  }

  /** From the enlarged image to another sample or checkpoint, over the page's edge too. */
  step(down, right) {
    const [sample, c] = this.large;
    const columns = this.columns();
    const column = Math.max(0, columns.indexOf(c)) + right;
    const row = this.matching.indexOf(sample) + down;
    if (column < 0 || column >= columns.length || row < 0 || row >= this.matching.length) return;
    this.enlarge(this.matching[row], columns[column]);
  }

  /** Back to the image that was enlarged last, on whatever page it is. */
  closed() {
    const [sample, c] = this.large;
    const page = Math.floor(this.matching.indexOf(sample) / this.state.size) + 1;
    if (page > 0 && page !== this.state.page) {
      this.state.page = page;
      this.update();
    }
    this.focus(sample, c);
  }

  focus(sample, c) {
    const card = byId("cards").querySelector(`[data-sample="${sample}"]`);
    card?.querySelector(`[data-checkpoint="${c}"]`)?.focus();
  }

  walk(tile, down, right) {
    const sample = Number(tile.closest(".card").dataset.sample);
    const columns = this.columns();
    const column = columns.indexOf(Number(tile.dataset.checkpoint)) + right;
    const row = this.matching.indexOf(sample) + down;
    if (column < 0 || column >= columns.length || row < 0 || row >= this.matching.length) return;
    const page = Math.floor(row / this.state.size) + 1;
    if (page !== this.state.page) {
      this.state.page = page;
      this.update();
    }
    this.focus(this.matching[row], columns[column]);
  }
}

// ---- start -----------------------------------------------------------------------------------

addEventListener("DOMContentLoaded", () => {
  const button = byId("theme");
  const name = () => {
    button.textContent = theme.dark() ? "Light theme" : "Dark theme";
  };
  name();
  button.hidden = false;
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = theme.dark() ? "light" : "dark";
    theme.keep(document.documentElement.dataset.theme);
    name();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", name);

  const index = [...document.querySelectorAll("#gallery [data-board]")].map((element) => ({
    key: element.dataset.board, suite: element.dataset.suite, protocol: element.dataset.protocol,
  }));
  new Gallery(index).start();
  performance.mark("soar-bench-ready");
});
