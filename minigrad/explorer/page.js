"use strict";
// The page of mg.explore. One state (what the time is, which training step, what is folded); everything shown is drawn
// from it. Lists and graph draw only what can be seen, so that a tape of 10⁴ lines is as quick as one of ten.

const TAPE = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const still = matchMedia("(prefers-reduced-motion: reduce)");
const narrow = matchMedia("(max-width: 900px)");

// The tape

const nodes = TAPE.nodes.map(([op, name, path, place, inputs, options, saved, shape, dtype], index) => ({
  index, op: op < 0 ? null : TAPE.ops[op], name, path: TAPE.paths[path], place: TAPE.places[place], inputs,
  options: TAPE.notes[options], saved: TAPE.notes[saved], shape: TAPE.shapes[shape], dtype: TAPE.dtypes[dtype], uses: [],
}));
for (const node of nodes)
  node.inputs.forEach((input, at) => { if (typeof input === "number") nodes[input].uses.push([node.index, at]); });

const frames = TAPE.frames;
for (const frame of frames) // an array of a line has the line's shape
  nodes.forEach(({ shape, index: i }) => {
    for (const array of [frame.values[i], frame.cotangents[i], ...frame.parts[i].map((part) => part[2])]) if (array) array.shape = shape;
  });
// Backward reaches op lines from the last to the first, then the leaves.
const reached = nodes.filter((n) => frames[0].cotangents[n.index]).reverse();
const backward = [...reached.filter((n) => n.op), ...reached.filter((n) => !n.op)];
const turn = new Map(backward.map((n, i) => [n.index, nodes.length + i]));
const END = nodes.length + backward.length - 1;

const state = { time: 0, frame: 0, query: "", folded: new Set(), view: "graph", cursor: 0 };
const isBackward = () => state.time >= nodes.length;
const active = () => (isBackward() ? backward[state.time - nodes.length] : forward[state.time]);
const hasValue = (n) => n.born <= state.time;
const hasCotangent = (n) => turn.has(n.index) && turn.get(n.index) <= state.time;

const label = (n) => (n.op ? n.op.name : n.name || "leaf");
const tuple = (shape) => (shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`);
const argument = (n, at) => (n.op.sequence ? `${n.op.arguments[0]}[${at}]` : n.op.arguments[at] ?? "");
/** The name of a cotangent: a bar above. */
const barred = (name) => (name.length === 1 ? symbol(`${name}\u0304`) : h("span", { class: "symbol long" }, name));
const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

const haystack = nodes.map((n) =>
  [`%${n.index}`, label(n), n.name, n.path, n.op?.formula, n.dtype, tuple(n.shape), ...n.place].join(" ").toLowerCase());
const matches = (n) => !state.query || haystack[n.index].includes(state.query);

// Modules: maximal runs of lines with one path are groups within groups. A leaf stands before its first use, and has its
// value then: so the way forward is that of the list.

const forward = [];
function grouped() {
  const root = { name: "", path: "", items: [], depth: 0, size: 0 };
  const groups = [root], open = [root], placed = new Set();
  const put = (node, path) => {
    const parts = path ? path.split(".") : [];
    let common = 0;
    while (common + 1 < open.length && open[common + 1].name === parts[common]) common++;
    open.length = common + 1;
    for (const name of parts.slice(common)) {
      const above = open.at(-1);
      const group = { name, path: above.path ? `${above.path}.${name}` : name, items: [], above, depth: open.length, size: 0 };
      above.items.push(group);
      groups.push(group);
      open.push(group);
    }
    node.above = open.at(-1);
    node.above.items.push(node);
    placed.add(node.index);
    node.born = forward.push(node) - 1;
    for (const group of open) { group.size++; group.last = node; if (node.op) group.first ??= node; }
  };
  for (const node of nodes) {
    if (!node.op) continue;
    for (const input of node.inputs)
      if (typeof input === "number" && !nodes[input].op && !placed.has(input)) put(nodes[input], node.path);
    put(node, node.path);
  }
  for (const node of nodes) if (!placed.has(node.index)) put(node, "");
  return groups;
}
const groups = grouped();
const root = groups[0];
const isNode = (item) => item.items === undefined;
const isLeaf = (item) => isNode(item) && !item.op;
[...nodes, ...groups].forEach((item, id) => { item.id = id; });
/** A name without the path of the module that it stands in. */
function brief(n) {
  const text = label(n), path = n.above.path;
  return path && text.startsWith(`${path}.`) ? text.slice(path.length + 1) : text;
}
/** The item that stands for a node: itself, or the outermost folded group around it. */
function standing(node) {
  let found = node;
  for (let group = node.above; group !== root; group = group.above) if (state.folded.has(group)) found = group;
  return found;
}

// Layout: inside each group, a row for each depth; a folded group is one box. What passes a row has a lane in it, so
// that no edge runs through a box. The only op or group of a row stands on the spine, with its leaves at both sides.

const BOX = 38, GAP = 22, LEVEL = 34, PAD = 14, HEAD = 24, LANE = 8;
const FAR = 24; // rows that an edge may pass: a longer one is drawn where it arrives, with the name of what it comes from
const measure = document.createElement("canvas").getContext("2d");
const FONT = "system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif";
const widths = new Map();
function width(text, font) {
  const key = font + text;
  if (!widths.has(key)) { measure.font = font; widths.set(key, measure.measureText(text).width); }
  return widths.get(key);
}
const shorten = (text, most = 26) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const title = (item) => (isNode(item) ? shorten(brief(item)) : item.name);
function subtitle(item) {
  if (!isNode(item)) return plural(item.size, "line");
  const array = hasCotangent(item) ? cotangent(item) : hasValue(item) ? value(item) : null;
  return array && !item.shape.length ? format(array.numbers[0]) : tuple(item.shape);
}

let edges = [];
function layout() {
  edges = [];
  for (const group of groups) Object.assign(group, { inner: [], lanes: [], rank: 0, rows: 0 });
  connect();
  const shown = groups.filter((g) => !state.folded.has(g) && !hiddenGroup(g));
  for (const group of shown) rank(group);
  for (const edge of edges) giveLanes(edge);
  for (const group of [...groups].reverse()) { // inner ones first
    if (state.folded.has(group)) {
      group.w = Math.max(96, width(group.name, `600 13px ${FONT}`), width(subtitle(group), `11px ${FONT}`)) + 30;
      Object.assign(group, { h: BOX, port: group.w / 2 });
    } else if (!hiddenGroup(group)) arrange(group);
  }
  Object.assign(root, { ax: -root.port, ay: 0 });
  for (const group of shown) // outer ones first
    for (const item of [...group.items, ...group.lanes]) { item.ax = group.ax + group.port + item.x; item.ay = group.ay + item.y; }
  for (const edge of edges) {
    const { source: s, target: t } = edge, y1 = t.ay, x1 = t.ax + t.port;
    edge.points = edge.far ? [[x1 + 30, y1 - 17], [x1, y1]]
      : [[s.ax + s.port, s.ay + s.h], ...edge.lanes.flatMap((l) => [[l.ax + LANE / 2, l.ay], [l.ax + LANE / 2, l.ay + l.h]]), [x1, y1]];
    const xs = edge.points.map((q) => q[0]), ys = edge.points.map((q) => q[1]);
    edge.bounds = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  }
}
/** An edge for each pair of boxes, known to the group that has both: ``up`` and ``down`` are the ways out and in. */
function connect() {
  const around = (item) => { const found = []; for (let i = item; i; i = i.above) found.push(i); return found; };
  const seen = new Set();
  for (const node of nodes) {
    const target = standing(node);
    for (const input of node.inputs) {
      if (typeof input !== "number") continue;
      const source = standing(nodes[input]), key = `${source.id} ${target.id}`;
      if (source === target || seen.has(key)) continue;
      seen.add(key);
      const up = around(source), down = around(target);
      while (up.at(-1) === down.at(-1)) { up.pop(); down.pop(); }
      edges.push({ source, target, from: input, to: node.index, up, down, lanes: [], far: false });
      up.at(-1).above.inner.push([up.at(-1), down.at(-1)]);
    }
  }
}
/** The row of each item: beneath all that it comes from; a leaf just above its first use. */
function rank(group) {
  group.behind = new Map();
  const ahead = new Map();
  for (const [a, b] of group.inner) {
    if (!group.behind.has(b)) group.behind.set(b, []);
    group.behind.get(b).push(a);
    if (!ahead.has(a)) ahead.set(a, []);
    ahead.get(a).push(b);
  }
  for (const item of group.items) item.rank = (group.behind.get(item) ?? []).reduce((most, b) => Math.max(most, b.rank + 1), 0);
  for (const item of group.items)
    if (isLeaf(item) && ahead.has(item)) item.rank = ahead.get(item).reduce((least, a) => Math.min(least, a.rank), Infinity) - 1;
  group.rows = group.items.reduce((most, item) => Math.max(most, item.rank + 1), 0);
  group.laned = new Map();
}
function giveLanes(edge) {
  const { up, down } = edge, spans = [];
  for (let i = 0; i + 1 < up.length; i++) spans.push([up[i].above, up[i].rank + 1, up[i].above.rows]);
  spans.push([up.at(-1).above, up.at(-1).rank + 1, down.at(-1).rank]);
  for (let i = down.length - 1; i > 0; i--) spans.push([down[i], 0, down[i - 1].rank]);
  edge.far = spans.reduce((sum, [, first, end]) => sum + Math.max(0, end - first), 0) > FAR;
  for (const [group, first, end] of edge.far ? [] : spans)
    for (let row = first; row < end; row++) {
      const key = `${row} ${edge.source.id}`;
      if (!group.laned.has(key)) {
        const lane = { source: edge.source, rank: row, w: LANE, port: LANE / 2 };
        group.laned.set(key, lane);
        group.lanes.push(lane);
      }
      edge.lanes.push(group.laned.get(key));
    }
}
function arrange(group) {
  const rows = Array.from({ length: group.rows }, () => ({ ops: [], leaves: [], lanes: [] }));
  for (const item of group.items) rows[item.rank][isLeaf(item) ? "leaves" : "ops"].push(item);
  for (const lane of group.lanes) rows[lane.rank].lanes.push(lane);
  let y = group === root ? 0 : HEAD + PAD / 2, left = 0, right = 0;
  for (const each of rows) {
    const { ops, leaves, lanes } = each;
    for (const item of [...ops, ...leaves]) if (isNode(item)) {
      item.w = Math.max(62, width(title(item), `600 13px ${FONT}`), width(tuple(item.shape), `11px ${FONT}`)) + 54;
      Object.assign(item, { h: BOX, port: item.w / 2 });
    }
    const height = Math.max(BOX, ...ops.map((item) => item.h));
    let row;
    if (ops.length < 2 && (ops.length || lanes.length)) {
      const spine = ops[0] ?? lanes[0], half = leaves.length >> 1;
      row = [...leaves.slice(0, half), spine, ...leaves.slice(half), ...lanes.filter((l) => l !== spine)];
      line(row, spine);
    } else {
      const middle = (item) => item.x + item.port;
      const pull = new Map(ops.concat(leaves).map((item) => {
        const from = group.behind.get(item);
        return [item, from ? from.reduce((sum, b) => sum + middle(b), 0) / from.length : 0];
      }));
      for (const lane of lanes) pull.set(lane, lane.source.above === group ? middle(lane.source) : 0);
      row = [...ops, ...leaves, ...lanes].sort((a, b) => pull.get(a) - pull.get(b));
      each.mixed = true;
      line(row, null);
    }
    for (const item of row) { item.y = y; if (item.source) item.h = height; }
    left = Math.max(left, -row[0].x);
    right = Math.max(right, row.at(-1).x + row.at(-1).w);
    y += height + LEVEL;
  }
  const furthest = new Map(); // what passes several rows goes straight
  const outer = group.lanes.filter((lane) => lane.x > 0 && !rows[lane.rank].mixed);
  for (const lane of outer) furthest.set(lane.source, Math.max(lane.x, furthest.get(lane.source) ?? 0));
  for (const lane of outer) lane.x = furthest.get(lane.source);
  if (group !== root) right = Math.max(right, width(group.name, `600 12px ${FONT}`) + 22 - left);
  Object.assign(group, { w: left + right + 2 * PAD, h: y - LEVEL + PAD, port: left + PAD });
}
/** Items side by side: the spine's middle at 0, or without one that of all. */
function line(row, spine) {
  let x = 0;
  for (const item of row) { item.x = x; x += item.w + GAP; }
  const zero = spine ? spine.x + spine.port : (x - GAP) / 2;
  for (const item of row) item.x -= zero;
}
const hiddenGroup = (group) => {
  for (let g = group.above; g && g !== root; g = g.above) if (state.folded.has(g)) return true;
  return false;
};
const hiddenNode = (node) => standing(node) !== node;

// Colours, and pictures of arrays: zero is the paper, positive numbers have the colour of values or of cotangents,
// negative ones that of ink.

let colour = {};
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
function readColours() {
  const style = getComputedStyle(document.documentElement);
  colour = {};
  for (const name of ["paper", "surface", "ink", "quiet", "rule", "value", "cotangent", "minus", "wrong", "value-wash", "cotangent-wash"])
    colour[name] = style.getPropertyValue(`--${name}`).trim();
  pictures = new WeakMap();
}
const blend = (a, b, share) => rgb(a).map((x, i) => Math.round(x + (rgb(b)[i] - x) * share));
/** The colour of a number in [−1, 1]; NaN for what is not finite. */
function shade(x, kind) {
  if (Number.isNaN(x)) return rgb(colour.wrong);
  return blend(colour.surface, x < 0 ? colour.minus : colour[kind], Math.min(1, Math.abs(x)) * (x < 0 ? .8 : 1));
}
let tables = {};
function palette(kind) {
  tables[kind + colour.surface] ??= Array.from({ length: 256 }, (_, i) => shade(i === 0 ? NaN : (i - 128) / 127, kind));
  return tables[kind + colour.surface];
}

const decoded = new WeakMap();
/** An array as a matrix of cells: {rows, columns, cells, top, exact}. */
function matrix(array) {
  if (decoded.has(array)) return decoded.get(array);
  let found;
  if (array.numbers) {
    const cells = array.numbers.map(Number);
    const last = array.shape.at(-1) ?? 1;
    const columns = array.shape.length === 1 && last > 8 ? (last > 64 ? 64 : last) : last || 1;
    const finite = cells.filter(Number.isFinite).map(Math.abs);
    found = { rows: Math.ceil(cells.length / columns), columns, cells, top: Math.max(0, ...finite) || 1, exact: true };
  } else {
    const bytes = Int8Array.from(atob(array.cells), (c) => c.charCodeAt(0));
    const cells = Array.from(bytes, (b) => (b === -128 ? NaN : (b / 127) * array.top));
    found = { rows: array.grid[0], columns: array.grid[1], cells, top: array.top || 1, exact: false };
  }
  decoded.set(array, found);
  return found;
}
let pictures = new WeakMap();
/** An array as pixels, one for each cell; ``top``: the number that has the full colour. */
function picture(array, kind, top) {
  const known = pictures.get(array);
  if (known && known.top === top && known.kind === kind) return known.canvas;
  const { rows, columns, cells } = matrix(array);
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, columns); canvas.height = Math.max(1, rows);
  const context = canvas.getContext("2d"), image = context.createImageData(canvas.width, canvas.height), table = palette(kind);
  cells.forEach((x, i) => {
    const at = Number.isFinite(x) ? Math.max(1, Math.min(255, 128 + Math.round((x / top) * 127))) : 0;
    image.data.set([...table[at], 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
  pictures.set(array, { canvas, top, kind });
  return canvas;
}
const tops = new Map();
/** The number that has the full colour: one for all training steps, so that colours can be compared. */
function topOf(kind, index, array) {
  const list = kind === "value" ? "values" : "cotangents", key = list + index;
  if (index === undefined || frames.length === 1) return matrix(array).top;
  if (!tops.has(key)) tops.set(key, Math.max(...frames.map((f) => (f[list][index] ? matrix(f[list][index]).top : 0))) || 1);
  return tops.get(key);
}
/** Minimum, mean, maximum and norm. */
function stats(array) {
  if (array.stats) return array.stats.map(Number);
  const x = array.numbers.map(Number);
  return [Math.min(...x), x.reduce((a, b) => a + b, 0) / x.length, Math.max(...x), Math.hypot(...x)];
}
function format(x, digits = 4) {
  if (typeof x === "boolean") return String(x);
  x = Number(x);
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "nan" : x > 0 ? "∞" : "−∞";
  const size = Math.abs(x);
  let text;
  if (Number.isInteger(x) && size < 1e6) text = String(x);
  else if (size < 1e-3 || size >= 1e6) text = x.toExponential(digits - 2).replace(/\.?0+e/, "e").replace("e+", "e");
  else text = String(Number(x.toPrecision(digits)));
  return text.replaceAll("-", "−");
}

// Building blocks of the side

function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === false || value === null) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "style") element.style.cssText = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== ""));
  return element;
}
const link = (n, text = `%${n.index}`) =>
  h("button", { type: "button", class: "link", onclick: () => goTo(n) }, text);
const symbol = (text) => h("span", { class: "symbol" }, text);

const TWINS = ["#8a5cc2", "#2a9d8f", "#c79a1b", "#d14d7c", "#6b8f2a", "#3f8fb5", "#a0664a", "#7a7f8c"];
/** Which sets of equal units there are: for each unit a number from 1 on, 0 for one that equals no other. */
function twinSets(array) {
  const count = new Map();
  for (const first of array.twins) count.set(first, (count.get(first) ?? 0) + 1);
  const names = new Map([...count].filter(([, n]) => n > 1).map(([first], i) => [first, i + 1]));
  return { sets: array.twins.map((first) => names.get(first) ?? 0), distinct: count.size };
}
function twinStrip(array, length) {
  const { sets } = twinSets(array);
  const across = array.axis === 1;
  const canvas = h("canvas", { class: "strip", "aria-hidden": "true" });
  canvas.width = across ? sets.length : 1; canvas.height = across ? 1 : sets.length;
  canvas.style.cssText = across ? `width:${length}px;height:5px` : `height:${length}px;width:5px`;
  const context = canvas.getContext("2d");
  sets.forEach((set, i) => {
    context.fillStyle = set ? TWINS[(set - 1) % TWINS.length] : "transparent";
    context.fillRect(across ? i : 0, across ? 0 : i, 1, 1);
  });
  return canvas;
}
function twinText(array) {
  const { distinct } = twinSets(array);
  return `${plural(array.twins.length, "unit")} act as ${distinct}, to the bit`;
}

function table(array, kind, top) {
  const { rows, columns, cells } = matrix(array);
  const wide = array.shape.length === 1 && columns > 8 ? 8 : columns;
  const body = h("tbody");
  const down = array.twins && array.axis === 0 ? twinSets(array).sets : null;
  if (array.twins && array.axis === 1) {
    const marks = twinSets(array).sets.map((set) => h("th", { style: set ? `border-bottom:3px solid ${TWINS[(set - 1) % TWINS.length]}` : "" }));
    body.append(h("tr", { "aria-hidden": "true" }, marks));
  }
  for (let r = 0; r < Math.ceil(cells.length / wide); r++) {
    const row = h("tr");
    for (let i = r * wide; i < Math.min(cells.length, (r + 1) * wide); i++) {
      const x = cells[i] / top, raw = array.numbers[i];
      const back = shade(Number.isFinite(x) ? x : NaN, kind);
      const dark = back[0] * .299 + back[1] * .587 + back[2] * .114 < 140;
      row.append(h("td", { title: String(raw), style: `background:rgb(${back});color:${dark ? "#fff" : "#1d1c1a"}` }, format(raw, cells.length <= 6 ? 6 : 4)));
    }
    if (down?.[r]) row.append(h("th", { style: `border-left:3px solid ${TWINS[(down[r] - 1) % TWINS.length]}` }));
    body.append(row);
  }
  return h("div", { class: "scroll" }, h("table", {}, body));
}

/** How a norm went over the training steps, with the present one marked. */
function course(list, index, kind) {
  if (frames.length < 2) return null;
  const values = frames.map((f) => f[list][index]).map((a) => (a ? stats(a)[3] : NaN));
  const svg = curve(values, state.frame);
  svg.setAttribute("class", `path ${kind}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `norm from ${format(values[0])} to ${format(values.at(-1))} over the training`);
  return svg;
}
function curve(values, at) {
  const finite = values.filter(Number.isFinite);
  const low = Math.min(...finite), high = Math.max(...finite), n = Math.max(1, values.length - 1);
  const y = (v) => (high > low ? 25 - 24 * ((v - low) / (high - low)) : 13);
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("viewBox", `0 0 ${n} 26`);
  svg.setAttribute("preserveAspectRatio", "none");
  const path = document.createElementNS(space, "path");
  path.setAttribute("d", values.map((v, i) => (Number.isFinite(v) ? `${i && Number.isFinite(values[i - 1]) ? "L" : "M"}${i} ${y(v).toFixed(2)}` : "")).join(""));
  svg.append(path);
  if (at !== undefined) {
    const line = document.createElementNS(space, "line");
    for (const [key, value] of [["x1", at], ["x2", at], ["y1", 0], ["y2", 26]]) line.setAttribute(key, value);
    svg.append(line);
  }
  return svg;
}

/** An array: what it is called, its numbers or its heat map, its statistics. */
function figure(array, kind, { caption = [], index, small = false, className = "", top = topOf(kind, index, array) } = {}) {
  const { rows, columns, cells, exact } = matrix(array);
  const head = h("figcaption", {}, caption, h("span", { class: "shape" }, tuple(array.shape)));
  const box = h("figure", { class: className, "data-kind": kind, "data-line": index }, head);
  if (!array.shape.reduce((a, b) => a * b, 1)) {
    box.append(h("p", { class: "note" }, "no elements"));
    return box;
  }
  const numeric = exact && cells.length <= 64 && columns <= 8 + 56 * (array.shape.length === 1) && !small;
  const list = kind === "value" ? "values" : "cotangents";
  if (exact && cells.length === 1 && !small) {
    box.append(h("p", { class: `single ${kind}`, title: String(array.numbers[0]) }, typeof array.numbers[0] === "number" ? String(array.numbers[0]).replaceAll("-", "−") : format(array.numbers[0])));
  } else if (numeric) {
    box.append(table(array, kind, top));
  } else {
    const room = small ? 132 : 292;
    const cell = (count, length) => Math.max(1, Math.min(small ? 8 : 12, Math.floor(length / count)));
    const across = Math.max(12, columns * cell(columns, room)), down = Math.max(12, rows * cell(rows, small ? 110 : 220));
    const source = picture(array, kind, top), canvas = h("canvas", { class: "heat", role: "img" });
    canvas.width = source.width; canvas.height = source.height;
    canvas.getContext("2d").drawImage(source, 0, 0);
    canvas.style.cssText = `width:${across}px;height:${down}px`;
    const [low, mean, high, size] = stats(array);
    canvas.setAttribute("aria-label", `heat map of ${tuple(array.shape)}: minimum ${format(low)}, mean ${format(mean)}, maximum ${format(high)}, norm ${format(size)}`);
    const strip = array.twins ? twinStrip(array, array.axis === 1 ? across : down) : null;
    box.append(h("div", { class: array.axis === 1 ? "units below" : "units" }, canvas, strip));
    if (!exact && !small && array.shape.reduce((a, b) => a * b, 1) > cells.length)
      canvas.title = `${rows} × ${columns} means of blocks`;
  }
  if (array.twins) box.append(h("p", { class: "twins" }, twinText(array)));
  if (!(numeric && className) && (cells.length > 1 || !exact)) {
    const [low, mean, high, size] = stats(array);
    const entries = small ? [["norm", size]] : [["min", low], ["mean", mean], ["max", high], ["norm", size]];
    box.append(h("dl", {}, entries.map(([name, x]) => h("div", {}, h("dt", {}, name), h("dd", { title: String(x) }, format(x))))));
  }
  if (index !== undefined) box.append(course(list, index, kind) ?? "");
  if (exact && !numeric && !small && cells.length > 1)
    box.append(h("details", {}, h("summary", {}, "numbers"), table(array, kind, top)));
  return box;
}

// The active line

const value = (n) => frames[state.frame].values[n.index];
const cotangent = (n) => frames[state.frame].cotangents[n.index];
const parts = (n) => frames[state.frame].parts[n.index];
/** What line ``n`` sends to its input at ``at``: the array, which contribution it is, of how many. */
function sent(n, at) {
  const input = n.inputs[at];
  if (typeof input !== "number") return null;
  const all = parts(nodes[input]), which = all.findIndex(([from, place]) => from === n.index && place === at);
  return which < 0 ? null : { array: all[which][2] ?? cotangent(nodes[input]), which, of: all.length };
}

function operands(n) {
  return n.inputs.map((input, at) => {
    const name = [symbol(argument(n, at))];
    if (typeof input === "number")
      return figure(value(nodes[input]), "value", { index: input, caption: [name, link(nodes[input]), nodes[input].name || label(nodes[input])] });
    if (input === null) return null;
    if ("scalar" in input) return h("figure", {}, h("figcaption", {}, name, "= ", h("span", { class: "value" }, format(frames[state.frame].scalars[input.scalar], 6))));
    return figure(frames[state.frame].constants[input.constant], "value", { caption: [name, h("span", { class: "note" }, "constant")] });
  });
}
function place(n) {
  const [where, text] = n.place;
  return where ? h("p", { class: "place" }, where, text ? h("code", {}, text) : null) : null;
}
function heading(n) {
  const about = n.op ? [n.name, n.path].filter(Boolean).join(", in ") : n.name ? "leaf" : "";
  return h("h2", {}, h("span", { class: "number" }, `%${n.index}`), label(n), h("span", { class: "name" }, about));
}
function rules(n) {
  const found = Object.entries(n.op.rules);
  if (!found.length) return [h("p", { class: "note" }, "Backward records the formula again, and walks it.")];
  return found.map(([, formula]) => h("p", { class: "rule" }, formula));
}

function forwardLine(n) {
  if (!n.op) {
    const used = n.uses.map(([to]) => [link(nodes[to], `%${to} ${label(nodes[to])}`), " "]);
    return [
      h("p", { class: "note" }, used.length ? ["used by ", used.slice(0, 12).flat(), used.length > 12 ? `and ${used.length - 12} more` : ""] : "used by nothing"),
      figure(value(n), "value", { index: n.index, caption: [h("span", {}, n.dtype)] }), place(n)];
  }
  return [
    h("p", { class: "headline values" }, n.op.formula),
    n.options ? h("p", { class: "note" }, n.options) : null,
    n.op.residuals.map((formula) => h("p", { class: "rule" }, formula)),
    place(n),
    h("h3", {}, "Result"),
    figure(value(n), "value", { index: n.index, caption: [symbol(n.op.output), h("span", { class: "note" }, n.dtype)] }),
    h("h3", {}, "Operands"),
    operands(n),
    h("h3", {}, "On the way back"),
    rules(n),
    n.saved ? h("p", { class: "note" }, `keeps ${n.saved} for it`) : null,
  ];
}

function sum(n) {
  const all = parts(n), name = n.op ? n.op.output : n.name.split(".").at(-1) || "x";
  const top = Math.max(topOf("cotangent", n.index, cotangent(n)), ...all.map((part) => (part[2] ? matrix(part[2]).top : 0))); // one scale
  const whole = figure(cotangent(n), "cotangent", {
    index: n.index, top, className: all.length > 1 ? "total" : "",
    caption: [n.op ? barred(name) : symbol(`∂L/∂${name}`), all.length > 1 ? h("span", {}, `sum of ${all.length}`) : null],
  });
  if (!all.length) return [h("p", { class: "note" }, "Here backward begins."), whole];
  if (all.length === 1) {
    const from = nodes[all[0][0]];
    return [h("p", { class: "note" }, "from ", link(from, `%${from.index} ${label(from)}`)), whole];
  }
  const shown = all.slice(0, 8).map(([from, at, array], i) => figure(array, "cotangent", {
    className: "part", top,
    caption: [h("span", { class: "cotangent" }, i ? "+" : "\u2007"), link(nodes[from], `%${from} ${label(nodes[from])}`), h("span", { class: "note" }, `as ${argument(nodes[from], at)}`)],
  }));
  return [
    h("p", { class: "note" }, `It was used ${all.length} times, so ${all.length} contributions add up.`),
    shown, all.length > 8 ? h("p", { class: "note" }, `and ${all.length - 8} more`) : null, whole];
}

function backwardLine(n) {
  const received = [h("h3", {}, n.op ? "Cotangent of the result" : "Gradient"), sum(n)];
  if (!n.op) return [received, h("h3", {}, "Its value"), figure(value(n), "value", { index: n.index }), place(n)];
  const out = n.inputs.map((input, at) => {
    if (typeof input !== "number") return null;
    const name = argument(n, at), formula = n.op.rules[n.op.sequence ? n.op.arguments[0] : name];
    const target = nodes[input], what = sent(n, at);
    return h("div", {},
      h("p", { class: "rule sent" }, formula ?? [barred(name), " by the formula"]),
      what ? figure(what.array, "cotangent", {
        caption: [barred(name), "to ", link(target, `%${input} ${label(target)}`),
          what.of > 1 ? h("span", { class: "note" }, `contribution ${what.which + 1} of ${what.of}`) : null],
      }) : h("p", { class: "note" }, "sends nothing"));
  });
  return [
    h("p", { class: "headline" }, n.op.formula),
    received,
    h("h3", {}, "What it sends"), out,
    n.saved ? h("p", { class: "note" }, `The rules use ${n.saved}, kept since the way forward.`) : null,
    place(n),
    h("h3", {}, "Values"), operands(n),
    figure(value(n), "value", { index: n.index, caption: [symbol(n.op.output)] }),
  ];
}

function drawLine() {
  const n = active();
  $("line").replaceChildren(heading(n), ...(isBackward() ? backwardLine(n) : forwardLine(n)).flat(Infinity).filter((x) => x !== null && x !== undefined));
}

/** All parameters, and what the units of each layer put out, at this training step. */
function drawNetwork() {
  const leaves = nodes.filter((n) => !n.op), units = nodes.filter((n) => n.op && n.shape.length === 2 && n.shape[1] > 1);
  const pair = (n) => h("div", { class: "pair" },
    figure(value(n), "value", { index: n.index, small: true, caption: [h("span", { class: "value" }, "value")] }),
    cotangent(n) ? figure(cotangent(n), "cotangent", { index: n.index, small: true, caption: [h("span", { class: "cotangent" }, n.op ? "cotangent" : "gradient")] }) : "");
  const most = 60;
  const list = (items, text) => items.slice(0, most).map((n) => [h("h3", {}, link(n, text(n))), pair(n)]);
  $("network").replaceChildren(
    h("h2", {}, "Parameters"), ...list(leaves, (n) => n.name || `%${n.index}`).flat(),
    h("h2", { style: "margin-top:28px" }, "Units"), ...list(units, (n) => [n.path, label(n)].filter(Boolean).join(" · ")).flat(),
    ...(leaves.length > most || units.length > most ? [h("p", { class: "note" }, `The first ${most} of each are here.`)] : []));
}

// The list

const ROW = 30;
let rows = [];
/** What the list shows: groups and nodes in order, without what is folded, and without what is not searched for. */
function listRows() {
  rows = [];
  const stack = [root];
  const holds = new Map();
  if (state.query) for (const n of nodes) if (matches(n)) for (let g = n.above; g; g = g.above) holds.set(g, true);
  while (stack.length) {
    const item = stack.pop();
    if (isNode(item)) { if (matches(item)) rows.push(item); continue; }
    if (item !== root) {
      if (state.query && !holds.has(item)) continue;
      rows.push(item);
    }
    if (!state.folded.has(item) || state.query) for (let i = item.items.length - 1; i >= 0; i--) stack.push(item.items[i]);
  }
  $("rows").style.height = `${rows.length * ROW}px`;
  rowOf.clear();
  rows.forEach((item, i) => rowOf.set(item, i));
}
const rowOf = new Map();

function drawList() {
  const list = $("list"), from = Math.max(0, Math.floor(list.scrollTop / ROW) - 6);
  const to = Math.min(rows.length, Math.ceil((list.scrollTop + list.clientHeight) / ROW) + 6);
  const current = standing(active());
  const made = [];
  for (let i = from; i < to; i++) {
    const item = rows[i], indent = `top:${i * ROW}px;padding-left:${10 + 14 * ((isNode(item) ? item.above.depth + 1 : item.depth) - 1)}px`;
    const common = { id: `row${i}`, role: "treeitem", style: indent, "aria-level": isNode(item) ? item.above.depth + 1 : item.depth, "aria-setsize": rows.length, "aria-posinset": i + 1 };
    if (isNode(item)) {
      const status = hasCotangent(item) ? " walked" : hasValue(item) ? " valued" : "";
      made.push(h("div", {
        ...common, class: `row${status}${item === active() ? " active" : ""}${i === state.cursor ? " cursor" : ""}`,
        "aria-selected": item === active() ? "true" : "false", "aria-label": `${item.index}: ${label(item)} ${tuple(item.shape)}, ${hasCotangent(item) ? "has its cotangent" : hasValue(item) ? "has its value" : "to come"}`,
        onclick: () => { state.cursor = i; goTo(item); },
      }, h("span", { class: "dot" }), h("span", { class: "number" }, `%${item.index}`), h("span", { class: "name" }, brief(item)),
      h("span", { class: "formula" }, item.op ? (item.name || item.op.formula) : ""), h("span", { class: "shape" }, tuple(item.shape))));
    } else {
      made.push(h("div", {
        ...common, class: `row module${item === current ? " active" : ""}${i === state.cursor ? " cursor" : ""}`, "aria-expanded": state.folded.has(item) ? "false" : "true",
        "aria-label": `module ${item.path}, ${plural(item.size, "line")}`, onclick: () => { state.cursor = i; fold(item); },
      }, h("span", { class: "mark" }, "▸"), h("span", { class: "name" }, item.name), h("span", {}, String(item.size))));
    }
  }
  $("rows").replaceChildren(...made);
  list.setAttribute("aria-activedescendant", `row${state.cursor}`);
}
function showRow(i) {
  const list = $("list"), y = i * ROW;
  if (y < list.scrollTop + ROW) list.scrollTop = Math.max(0, y - 2 * ROW);
  else if (y + 2 * ROW > list.scrollTop + list.clientHeight) list.scrollTop = y + 3 * ROW - list.clientHeight;
}

// The graph

const canvas = $("canvas"), pen = canvas.getContext("2d");
const camera = { x: 0, y: 0, zoom: 1 };
let aim = null, asked = false;
function redraw() { if (!asked) { asked = true; requestAnimationFrame(paint); } }

function paint() {
  asked = false;
  if (aim) {
    const far = Math.abs(aim.x - camera.x) + Math.abs(aim.y - camera.y) + 300 * Math.abs(Math.log(aim.zoom / camera.zoom));
    const share = still.matches || far < .5 ? 1 : .28;
    for (const key of ["x", "y", "zoom"]) camera[key] += (aim[key] - camera[key]) * share;
    if (share === 1) aim = null; else redraw();
  }
  const dpr = devicePixelRatio || 1, w = canvas.clientWidth, hgt = canvas.clientHeight;
  if (!w || !hgt) return;
  if (canvas.width !== Math.round(w * dpr) || canvas.height !== Math.round(hgt * dpr)) { canvas.width = Math.round(w * dpr); canvas.height = Math.round(hgt * dpr); }
  pen.setTransform(dpr, 0, 0, dpr, 0, 0);
  pen.clearRect(0, 0, w, hgt);
  pen.translate(w / 2, hgt / 2);
  pen.scale(camera.zoom, camera.zoom);
  pen.translate(-camera.x, -camera.y);
  const left = camera.x - w / 2 / camera.zoom, right = camera.x + w / 2 / camera.zoom;
  const above = camera.y - hgt / 2 / camera.zoom, below = camera.y + hgt / 2 / camera.zoom;
  const inside = (x, y, ww, hh) => x < right && x + ww > left && y < below && y + hh > above;
  const fine = camera.zoom > .42;
  for (const group of groups) {
    if (group === root || state.folded.has(group) || hiddenGroup(group) || !inside(group.ax, group.ay, group.w, group.h)) continue;
    pen.beginPath();
    pen.roundRect(group.ax, group.ay, group.w, group.h, 10);
    pen.fillStyle = colour.surface;
    pen.globalAlpha = .75; pen.fill(); pen.globalAlpha = 1;
    pen.strokeStyle = colour.rule; pen.lineWidth = 1; pen.stroke();
    if (fine) { pen.fillStyle = colour.quiet; pen.font = `600 12px ${FONT}`; pen.textAlign = "left"; pen.fillText(`▾ ${group.name}`, group.ax + 10, group.ay + 18); }
  }
  const n = active(), current = standing(n), back = isBackward();
  const lit = [];
  for (const edge of edges) {
    const [x0, y0, x1, y1] = edge.bounds;
    if (y0 > below || y1 < above || x0 > right || x1 < left) continue;
    if (edge.target === current) { lit.push(edge); continue; }
    const walked = hasCotangent(nodes[edge.to]), valued = hasValue(nodes[edge.to]);
    pen.globalAlpha = walked || valued ? .5 : 1;
    pen.lineWidth = 1.2;
    stroke(edge, walked ? colour.cotangent : valued ? colour.value : colour.rule, fine);
    pen.globalAlpha = 1;
  }
  for (const edge of lit) {
    pen.lineWidth = 2.4;
    stroke(edge, back ? colour.cotangent : colour.value, fine);
    const [x, y] = back ? edge.points[0] : edge.points.at(-1), way = back ? 1 : -1;
    if (back && edge.far) continue;
    pen.beginPath(); pen.moveTo(x, y + way); pen.lineTo(x - 5, y + 9 * way); pen.lineTo(x + 5, y + 9 * way); pen.fill();
  }
  const dim = (item) => state.query && !(isNode(item) ? matches(item) : item.some);
  for (const node of nodes) {
    if (hiddenNode(node) || !inside(node.ax, node.ay, node.w, node.h)) continue;
    pen.globalAlpha = dim(node) ? .25 : 1;
    box(node, node === n, hasCotangent(node), hasValue(node), fine);
  }
  pen.globalAlpha = 1;
  for (const group of state.folded) {
    if (hiddenGroup(group) || !inside(group.ax, group.ay, group.w, group.h)) continue;
    box(group, group === current, Boolean(group.first) && hasCotangent(group.first), hasValue(group.last), fine);
  }
}
function stroke(edge, style, fine) {
  const [[x0, y0], ...rest] = edge.points;
  pen.strokeStyle = pen.fillStyle = style;
  pen.beginPath();
  pen.moveTo(x0, y0);
  let x = x0, y = y0;
  rest.forEach(([x1, y1], i) => {
    if (i % 2 && i + 1 < rest.length) pen.lineTo(x1, y1); // through a lane
    else { const mid = (y1 - y) / 2; pen.bezierCurveTo(x, y + mid, x1, y1 - mid, x1, y1); }
    x = x1; y = y1;
  });
  pen.stroke();
  if (edge.far && fine) { pen.font = `11px ${FONT}`; pen.textAlign = "left"; pen.fillText(isNode(edge.source) ? `%${edge.source.index} ${title(edge.source)}` : edge.source.name, x0 + 4, y0 + 4); }
}
function box(item, isActive, walked, valued, fine) {
  const { ax: x, ay: y, w, h: hh } = item, tint = walked || (isActive && isBackward()) ? "cotangent" : "value";
  pen.beginPath();
  pen.roundRect(x, y, w, hh, isNode(item) && !item.op ? hh / 2 : 7);
  pen.fillStyle = isActive ? colour[tint] : walked || valued ? colour[`${tint}-wash`] : colour.surface;
  pen.fill();
  pen.lineWidth = isActive ? 2 : 1;
  pen.strokeStyle = walked || valued || isActive ? colour[tint] : colour.rule;
  pen.stroke();
  if (!fine) return;
  let at = x + 13;
  const array = isNode(item) ? (walked ? cotangent(item) : valued ? value(item) : null) : null;
  if (isNode(item)) {
    if (array && item.shape.length && item.shape.every(Boolean)) {
      const small = picture(array, walked ? "cotangent" : "value", topOf(walked ? "cotangent" : "value", item.index, array));
      pen.imageSmoothingEnabled = false;
      const scale = 24 / Math.max(small.width, small.height), ww = Math.max(5, small.width * scale), ph = Math.max(5, small.height * scale);
      pen.drawImage(small, x + 8 + (24 - ww) / 2, y + 7 + (24 - ph) / 2, ww, ph);
      pen.lineWidth = 1; pen.strokeStyle = colour.rule; pen.strokeRect(x + 8 + (24 - ww) / 2 - .5, y + 7 + (24 - ph) / 2 - .5, ww + 1, ph + 1);
    }
    at = item.shape.length ? x + 39 : x + 14;
  }
  pen.textAlign = "left";
  pen.fillStyle = isActive ? colour.surface : walked || valued || !isNode(item) ? colour.ink : colour.quiet;
  pen.font = `600 13px ${FONT}`;
  pen.fillText(isNode(item) ? title(item) : `▸ ${title(item)}`, at, y + 16.5);
  pen.font = `11px ${FONT}`;
  pen.fillStyle = isActive ? colour.surface : colour.quiet;
  pen.fillText(subtitle(item), at, y + 30.5);
}

const clampZoom = (z) => Math.max(.02, Math.min(3, z));
function follow() {
  const item = standing(active()), w = canvas.clientWidth / 2, hgt = canvas.clientHeight / 2;
  if (!w) return;
  const to = aim ?? camera, zoom = to.zoom;
  const cx = item.ax + item.w / 2, cy = item.ay + item.h / 2;
  const dx = Math.abs(cx - to.x) * zoom, dy = Math.abs(cy - to.y) * zoom;
  const outX = dx > w - 70, outY = dy > hgt - 60;
  if (outX || outY) aim = { x: outX ? cx : to.x, y: outY ? cy : to.y, zoom: to.zoom };
  redraw();
}
function fit() {
  const w = canvas.clientWidth, hgt = canvas.clientHeight;
  if (!w) return;
  const zoom = clampZoom(Math.min(1.25, (w - 40) / root.w, (hgt - 80) / root.h));
  aim = { x: root.ax + root.w / 2, y: root.ay + root.h / 2, zoom };
  redraw();
}
/** All of a small tape; of a large one, where the active line is. */
function home() {
  fit();
  if (aim && aim.zoom < .7) {
    const item = standing(active());
    aim = { x: item.ax + item.w / 2, y: item.ay + canvas.clientHeight / 3, zoom: narrow.matches ? .8 : .9 };
  }
  if (aim) { Object.assign(camera, aim); aim = null; }
  redraw();
}
function zoomBy(factor, px = 0, py = 0) {
  const from = aim ?? { ...camera }, zoom = clampZoom(from.zoom * factor);
  aim = { x: from.x + px / from.zoom - px / zoom, y: from.y + py / from.zoom - py / zoom, zoom };
  redraw();
}
function itemAt(px, py) {
  const bounds = canvas.getBoundingClientRect();
  const x = camera.x + (px - bounds.left - bounds.width / 2) / camera.zoom, y = camera.y + (py - bounds.top - bounds.height / 2) / camera.zoom;
  const over = (i, hh = i.h) => x >= i.ax && x <= i.ax + i.w && y >= i.ay && y <= i.ay + hh;
  for (const node of nodes) if (!hiddenNode(node) && over(node)) return node;
  let found = null;
  for (const group of groups) if (group !== root && !hiddenGroup(group) && over(group, state.folded.has(group) ? group.h : HEAD)) found = group;
  return found;
}

const pointers = new Map();
let moved = 0, pinch = 0;
canvas.addEventListener("pointerdown", (event) => {
  pointers.set(event.pointerId, event);
  canvas.setPointerCapture(event.pointerId);
  moved = 0; pinch = 0; aim = null;
});
canvas.addEventListener("pointermove", (event) => {
  const before = pointers.get(event.pointerId);
  if (!before) { canvas.style.cursor = itemAt(event.clientX, event.clientY) ? "pointer" : ""; return; }
  moved += Math.abs(event.clientX - before.clientX) + Math.abs(event.clientY - before.clientY);
  camera.x -= (event.clientX - before.clientX) / camera.zoom / pointers.size;
  camera.y -= (event.clientY - before.clientY) / camera.zoom / pointers.size;
  pointers.set(event.pointerId, event);
  if (pointers.size === 2) {
    const [a, b] = [...pointers.values()], apart = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
    if (pinch) camera.zoom = clampZoom((camera.zoom * apart) / pinch);
    pinch = apart;
  }
  if (moved > 4) canvas.classList.add("dragged");
  redraw();
});
for (const kind of ["pointerup", "pointercancel"]) canvas.addEventListener(kind, (event) => {
  const known = pointers.delete(event.pointerId);
  canvas.classList.remove("dragged");
  if (!known || kind === "pointercancel" || moved > 4) return;
  const item = itemAt(event.clientX, event.clientY);
  if (item) { if (isNode(item)) goTo(item); else fold(item); }
});
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  const bounds = canvas.getBoundingClientRect();
  if (event.ctrlKey || event.metaKey) {
    zoomBy(Math.exp(-event.deltaY / 200), event.clientX - bounds.left - bounds.width / 2, event.clientY - bounds.top - bounds.height / 2);
    if (aim) { Object.assign(camera, aim); aim = null; }
  } else { aim = null; camera.x += event.deltaX / camera.zoom; camera.y += event.deltaY / camera.zoom; }
  redraw();
}, { passive: false });
canvas.addEventListener("keydown", (event) => {
  const way = { ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  if (!way) return;
  event.preventDefault(); event.stopPropagation();
  const from = aim ?? camera;
  aim = { x: from.x, y: from.y + (way[1] * 90) / from.zoom, zoom: from.zoom };
  redraw();
});

// Time

function go(time, quiet = false) {
  state.time = Math.max(0, Math.min(END, time));
  document.body.classList.toggle("backward", isBackward());
  const n = active(), row = rowOf.get(standing(n));
  if (row !== undefined && !quiet) { state.cursor = row; showRow(row); }
  draw();
  if (!quiet) follow();
}
/** To a line: where it gets its value; on the way back, where its cotangent is whole. */
function goTo(n) {
  pause();
  go(isBackward() && turn.has(n.index) ? turn.get(n.index) : n.born);
}
function other() {
  const n = active();
  if (isBackward()) go(n.born); else if (turn.has(n.index)) go(turn.get(n.index));
}
function showFrame(frame) {
  state.frame = Math.max(0, Math.min(frames.length - 1, frame));
  draw(); redraw();
}
function draw() {
  const n = active(), back = isBackward();
  $("time").value = state.time;
  $("time").setAttribute("aria-valuetext", `${back ? "backward" : "forward"}, line ${n.index}, ${label(n)}`);
  $("phase").replaceChildren(h("b", {}, back ? "backward" : "forward"), ` ${back ? state.time - nodes.length + 1 : state.time + 1} of ${back ? backward.length : nodes.length}`, h("span", { class: "hidden" }, `, line ${n.index}, ${label(n)} ${n.name}`));
  if (frames.length > 1) {
    const loss = value(nodes.at(-1)).numbers?.[0];
    $("frame").value = state.frame;
    $("when").textContent = `step ${state.frame + 1} of ${frames.length}${loss === undefined ? "" : `, loss ${format(loss)}`}`;
  }
  drawList();
  const shown = state.view === "network" && frames.length > 1 ? "network" : "line";
  $("line").hidden = shown !== "line"; $("network").hidden = shown !== "network";
  if (shown === "network") drawNetwork(); else drawLine();
  redraw();
}

let timer = null, playing = null;
const ICONS = { play: "M2 1l9 5-9 5z", pause: "M2 1h3v10H2zM7 1h3v10H7z" };
function icon(button, name) { button.innerHTML = `<svg viewBox="0 0 12 12" aria-hidden="true"><path d="${ICONS[name]}"/></svg>`; }
function pause() {
  clearInterval(timer); timer = playing = null;
  icon($("play"), "play"); icon($("train"), "play");
  $("play").setAttribute("aria-label", "Play"); $("train").setAttribute("aria-label", "Play the training");
}
function play(what) {
  const was = playing;
  pause();
  if (was === what) return;
  playing = what;
  icon($(what), "pause");
  $(what).setAttribute("aria-label", "Pause");
  if (what === "play" && state.time === END) go(0);
  if (what === "train" && state.frame === frames.length - 1) showFrame(0);
  timer = setInterval(() => {
    if (what === "play") { if (state.time === END) pause(); else go(state.time + 1); }
    else if (state.frame === frames.length - 1) pause();
    else showFrame(state.frame + 1);
  }, what === "play" ? (END > 100 ? 150 : 700) : 180);
}

// What is folded, what is searched, what is looked at

function refold() {
  layout(); listRows();
  state.cursor = rowOf.get(standing(active())) ?? 0;
  $("fold").textContent = state.folded.size ? "Open" : "Collapse";
}
function fold(group) {
  if (state.folded.has(group)) state.folded.delete(group); else state.folded.add(group);
  const at = group.ay - camera.y, on = group.ax + group.w / 2 - camera.x;
  refold();
  state.cursor = rowOf.get(group) ?? state.cursor;
  camera.y = group.ay - at; camera.x = group.ax + group.w / 2 - on;
  draw();
}
function foldAll() {
  if (state.folded.size) state.folded.clear(); else for (const group of groups) if (group.depth === 1) state.folded.add(group);
  refold(); home(); draw();
}
function search() {
  state.query = $("search").value.trim().toLowerCase();
  const found = state.query ? nodes.filter(matches) : [];
  for (const group of groups) group.some = false;
  for (const n of found) for (let g = n.above; g; g = g.above) g.some = true;
  $("found").textContent = state.query ? String(found.length) : "";
  listRows();
  $("list").scrollTop = 0;
  state.cursor = rowOf.get(active()) ?? 0;
  drawList(); redraw();
  return found;
}
/** To the next line that is found. */
function nextFound() {
  const found = search(), here = active().index;
  if (found.length) goTo(found.find((n) => n.index > here) ?? found[0]);
}
function view(name) {
  state.view = name;
  document.body.dataset.view = name;
  for (const button of document.querySelectorAll("[data-view]")) if (button !== document.body) {
    const shown = button.dataset.view === (button.closest(".tabs") && name !== "network" ? "line" : name);
    button.setAttribute("aria-pressed", shown ? "true" : "false");
  }
  draw();
  if (name === "graph") { home(); follow(); }
  if (name === "tape") { showRow(state.cursor); drawList(); }
}

const preferred = matchMedia("(prefers-color-scheme: dark)");
let chosen = null;
function theme() {
  document.documentElement.dataset.theme = (chosen ?? preferred.matches) ? "dark" : "light";
  readColours();
}

$("search").addEventListener("input", search);
$("search").addEventListener("keydown", (event) => {
  if (event.key === "Enter") { event.preventDefault(); nextFound(); }
  if (event.key === "Escape") { $("search").value = ""; search(); $("list").focus(); }
  event.stopPropagation();
});
$("time").addEventListener("input", () => { pause(); go(Number($("time").value)); });
$("frame").addEventListener("input", () => { pause(); showFrame(Number($("frame").value)); });
$("play").addEventListener("click", () => play("play"));
$("train").addEventListener("click", () => play("train"));
$("next").addEventListener("click", () => { pause(); go(state.time + 1); });
$("back").addEventListener("click", () => { pause(); go(state.time - 1); });
$("fold").addEventListener("click", foldAll);
$("larger").addEventListener("click", () => zoomBy(1.3));
$("smaller").addEventListener("click", () => zoomBy(1 / 1.3));
$("fit").addEventListener("click", fit);
$("theme").addEventListener("click", () => { chosen = !(chosen ?? preferred.matches); theme(); draw(); });
for (const button of document.querySelectorAll("button[data-view]")) button.addEventListener("click", () => view(button.dataset.view));
$("list").addEventListener("scroll", () => requestAnimationFrame(drawList));
$("list").addEventListener("keydown", (event) => {
  const item = rows[state.cursor], step = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12 }[event.key];
  if (step) { state.cursor = Math.max(0, Math.min(rows.length - 1, state.cursor + step)); showRow(state.cursor); drawList(); }
  else if (event.key === "Enter") { if (isNode(item)) goTo(item); else fold(item); }
  else if (event.key === "ArrowRight" && !isNode(item) && state.folded.has(item)) fold(item);
  else if (event.key === "ArrowLeft" && !isNode(item) && !state.folded.has(item)) fold(item);
  else if (event.key === "ArrowLeft" && isNode(item) && rowOf.has(item.above)) { state.cursor = rowOf.get(item.above); showRow(state.cursor); drawList(); }
  else return;
  event.preventDefault(); event.stopPropagation();
});

const KEYS = {
  ArrowRight: () => { pause(); go(state.time + 1); }, ArrowLeft: () => { pause(); go(state.time - 1); },
  Home: () => { pause(); go(0); }, End: () => { pause(); go(END); }, b: other, t: () => $("theme").click(), c: foldAll,
  "+": () => zoomBy(1.3), "=": () => zoomBy(1.3), "-": () => zoomBy(1 / 1.3), 0: fit, "/": () => $("search").focus(),
  "]": () => showFrame(state.frame + 1), "[": () => showFrame(state.frame - 1), " ": () => play("play"), n: nextFound,
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in KEYS)) return;
  const on = event.target;
  if (on.tagName === "INPUT" && on.type === "range" && event.key.length > 1) return; // a slider has arrows of its own
  if (event.key === " " && on.closest("button, summary")) return;
  if (event.key === "/" && narrow.matches) view("tape");
  event.preventDefault();
  KEYS[event.key]();
});
preferred.addEventListener("change", () => { theme(); draw(); });
new ResizeObserver(() => { redraw(); drawList(); }).observe(document.querySelector("main"));

// The beginning

$("time").max = END;
const share = ((nodes.length - .5) / Math.max(1, END)) * 100;
$("time").style.setProperty("--track", `linear-gradient(90deg, var(--value) ${share}%, var(--cotangent) ${share}%)`);
const ops = nodes.filter((n) => n.op).length;
$("about").textContent = `${plural(ops, "op")}, ${nodes.length - ops === 1 ? "1 leaf" : `${nodes.length - ops} leaves`}${frames.length > 1 ? `, ${plural(frames.length, "training step")}` : ""}`;
$("frame").max = frames.length - 1;
$("training").hidden = frames.length < 2;
for (const element of document.querySelectorAll('[data-view="network"], .tabs')) element.hidden = frames.length < 2;
if (frames.length > 1) {
  const losses = frames.map((f) => Number(f.values.at(-1).numbers?.[0] ?? NaN));
  if (losses.some(Number.isFinite)) { const made = curve(losses); $("losses").setAttribute("viewBox", made.getAttribute("viewBox")); $("losses").append(...made.childNodes); }
}
pause();
layout();
listRows();
theme();
view(frames.length > 1 && !narrow.matches ? "network" : "graph");
go(frames.length > 1 ? nodes.length - 1 : 0);
home();
document.documentElement.dataset.ready = String(Math.round(performance.now()));
