
"use strict";
(() => {
  // A row of the data: see `write.rs`.
  const [PATH, VERDICT, REASON, SIZE, COVERED, SIGNED, AGE, ACCEPTED, OTHERS] = [0, 1, 2, 3, 4, 5, 6, 7, 8];
  const RESULTS = [
    ["valid", "valid"], ["refused", "refused"], ["not judged", "notjudged"], ["passed over", "notjudged"],
  ];
  const CHOICES = 300;
  const data = JSON.parse(document.getElementById("data").textContent);
  const rows = data.rows.map(([cells, details], index) => ({ cells, details, index }));
  const byId = (id) => document.getElementById(id);
  const body = byId("table").tBodies[0];
  const number = new Intl.NumberFormat("en");
  const order = new Intl.Collator("en", { numeric: true });
  const state = { sort: "verdict", down: false, page: 0, search: "", verdict: "", signer: "", age: "" };
  const open = new Set();
  let shown = rows;

  // Text goes into the page as text only, never as markup.
  function el(name, attributes, ...children) {
    const svg = name === "svg" || name === "rect";
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  function bytes(count) {
    if (count < 1024) return `${count} B`;
    const units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let unit = -1;
    while (count >= 1024 && unit < 5) { count /= 1024; unit += 1; }
    return `${count.toFixed(count < 10 ? 1 : 0)} ${units[unit]}`;
  }

  function percent(part, all) {
    if (part <= 0) return "0 %";
    if (part >= all) return "100 %";
    return `${Math.min(99.9, Math.max(0.1, (part / all) * 100)).toFixed(1)} %`;
  }

  function time(seconds, length) {
    const date = new Date(seconds * 1000);
    return Number.isNaN(date.getTime()) ? `${seconds} s` : date.toISOString().replace("T", " ").slice(0, length);
  }

  const text = (index) => (index === null || index === undefined ? "" : data.texts[index]);
  const tail = (id) => (id.length > 20 ? `…${id.slice(-16)}` : id);

  // --- what is shown -------------------------------------------------------

  function haystack(row) {
    if (row.words === undefined) {
      const who = [...row.cells[ACCEPTED], ...row.cells[OTHERS]].map((n) => data.signers[n]);
      const more = [...(row.details.p || []), ...((row.details.y || [])[1] || [])].map(text);
      const keys = row.details.m || [];
      const words = who.flatMap((s) => [s.name, s.id]).concat(more, keys);
      row.words = [row.cells[PATH], text(row.cells[REASON]), data.verdicts[row.cells[VERDICT]][0], ...words]
        .join("\n").toLowerCase();
    }
    return row.words;
  }

  // What a column sorts by; nothing stands behind everything, whichever way.
  const values = {
    verdict: (row) => row.cells[VERDICT],
    path: (row) => row.cells[PATH],
    signers: (row) => (row.cells[ACCEPTED].length ? data.signers[row.cells[ACCEPTED][0]].name : null),
    signed: (row) => row.cells[SIGNED],
    size: (row) => row.cells[SIZE],
    covered: (row) => (row.cells[COVERED] === null || !row.cells[SIZE] ? null : row.cells[COVERED] / row.cells[SIZE]),
  };

  const byPath = [...rows].sort((a, b) => order.compare(a.cells[PATH], b.cells[PATH]) || a.index - b.index);
  byPath.forEach((row, rank) => { row.rank = rank; });

  function select() {
    const words = state.search.toLowerCase().split(/\s+/).filter(Boolean);
    const value = values[state.sort];
    shown = rows.filter((row) =>
      (state.verdict === "" || row.cells[VERDICT] === Number(state.verdict)) &&
      (state.signer === "" || row.cells[ACCEPTED].includes(Number(state.signer))) &&
      (state.age === "" || row.cells[AGE] === Number(state.age)) &&
      words.every((word) => haystack(row).includes(word)));
    const way = state.down ? -1 : 1;
    const compare = (a, b) => {
      if (state.sort === "path") return way * (a.rank - b.rank);
      const [x, y] = [value(a), value(b)];
      if (x === y) return a.rank - b.rank;
      if (x === null) return 1;
      if (y === null) return -1;
      return way * (typeof x === "string" ? order.compare(x, y) : x - y) || a.rank - b.rank;
    };
    shown.sort(compare);
    state.page = 0;
    render();
  }

  // --- the table -----------------------------------------------------------

  function render() {
    const perPage = Number(byId("rows").value);
    const pages = Math.max(1, Math.ceil(shown.length / perPage));
    state.page = Math.min(state.page, pages - 1);
    const start = state.page * perPage;
    fill(shown.slice(start, start + perPage));
    const end = Math.min(start + perPage, shown.length);
    byId("place").textContent = shown.length === 0 ? "0 of 0"
      : `${number.format(start + 1)}–${number.format(end)} of ${number.format(shown.length)}`;
    for (const id of ["first", "previous"]) byId(id).disabled = state.page === 0;
    for (const id of ["next", "last"]) byId(id).disabled = state.page >= pages - 1;
    byId("status").textContent = shown.length === rows.length
      ? `${number.format(rows.length)} ${rows.length === 1 ? "image" : "images"}`
      : `${number.format(shown.length)} of ${number.format(rows.length)} images`;
    for (const head of document.querySelectorAll("#table > thead th")) {
      const sorts = head.firstElementChild.dataset.sort === state.sort;
      head.setAttribute("aria-sort", !sorts ? "none" : state.down ? "descending" : "ascending");
    }
    byId("sort").value = `${state.sort} ${state.down ? "down" : "up"}`;
    for (const kind of ["verdict", "signer", "age"]) {
      byId(kind).value = state[kind];
      for (const button of document.querySelectorAll(`figure [data-${kind}]`)) {
        button.setAttribute("aria-pressed", String(button.dataset[kind] === state[kind]));
      }
    }
  }

  function fill(list) {
    const parts = list.flatMap((row) => (open.has(row.index) ? [line(row), details(row)] : [line(row)]));
    if (parts.length === 0) {
      parts.push(el("tr", null, el("td", { colspan: 6, class: "empty" }, "No image is like that.")));
    }
    body.replaceChildren(...parts);
  }

  function line(row) {
    const c = row.cells;
    const [name, kind, mark] = data.verdicts[c[VERDICT]];
    const isOpen = open.has(row.index);
    const cut = c[PATH].lastIndexOf("/") + 1;
    const signer = (n, more) => el("bdi", { class: `who ${more}`, title: data.signers[n].id }, data.signers[n].name);
    const button = el("button", { type: "button", class: "toggle", "aria-expanded": isOpen },
      el("span", null,
        el("bdi", null, el("span", { class: "folder" }, c[PATH].slice(0, cut)), el("span", { class: "file" }, c[PATH].slice(cut))),
        c[REASON] === null ? null : el("span", { class: "why" }, text(c[REASON]))));
    if (isOpen) button.setAttribute("aria-controls", `detail-${row.index}`);
    return el("tr", { class: isOpen ? "row open" : "row", "data-row": row.index },
      el("td", { class: "verdict" }, el("span", { class: `mark ${kind}`, "aria-hidden": "true" }, mark), ` ${name}`),
      el("th", { scope: "row", class: "path" }, button),
      el("td", { class: "signers" },
        ...c[ACCEPTED].map((n) => signer(n, "")),
        ...c[OTHERS].map((n) => el("span", null, el("span", { class: "hide" }, "does not count: "), signer(n, "not")))),
      el("td", { class: "signed" }, c[SIGNED] === null ? "" : time(c[SIGNED], 10)),
      el("td", { class: "size" }, c[SIZE] === null ? "" : bytes(c[SIZE])),
      el("td", { class: "covered" }, ...(c[COVERED] === null || !c[SIZE] ? [] : [cover(row)])));
  }

  function cover(row) {
    const [size, signed] = [row.cells[SIZE], row.cells[COVERED]];
    const parts = [["ok", signed]];
    if (row.details.c) parts.push(["fixed", row.details.c[0]], ["free", row.details.c[1]], ["bare", row.details.c[2]]);
    const bar = el("svg", { "aria-hidden": "true" });
    let x = 0;
    for (const [kind, count] of parts) {
      const width = (count / size) * 100;
      if (count > 0) bar.append(el("rect", { class: kind, x: `${x}%`, width: `${Math.max(width, 1)}%`, height: "100%" }));
      x += width;
    }
    return el("div", { class: "cover" }, bar, el("span", null, percent(signed, size)));
  }

  function details(row) {
    const [c, d] = [row.cells, row.details];
    const list = el("dl");
    const tell = (name, ...value) => list.append(el("dt", null, name), el("dd", null, ...value));
    const many = (texts) => el("ul", null, ...texts.map((one) => el("li", null, one)));
    tell("File", el("bdi", null, c[PATH]));
    if (c[REASON] !== null) tell("Reason", text(c[REASON]));
    if (c[SIZE] !== null) tell("Size", `${number.format(c[SIZE])} bytes`);
    if (c[COVERED] !== null) tell("Signed and accepted", `${number.format(c[COVERED])} bytes`);
    if (d.c) {
      const [fixed, free, bare] = d.c.map((n) => number.format(n));
      tell("Other bytes", `${fixed} fixed by the format, ${free} free, ${bare} not covered`);
    }
    if (d.d) tell("Digest", el("code", null, d.d));
    if (d.p) tell("Problems", many(d.p.map(text)));
    if (d.m) tell("Keys that are missing", many(d.m.map((id) => el("code", null, id))));
    if (d.y) tell("Demands", d.y[0], d.y[1].length ? many(d.y[1].map(text)) : ": met");
    const cell = el("td", { colspan: 6 }, list);
    if (d.s) {
      const head = ["Signature", "Result", "Signer", "Signed on", "Objects", "Form"];
      const result = (s) => [
        el("span", { class: RESULTS[s.v][1] }, RESULTS[s.v][0]),
        s.r === undefined ? null : el("span", { class: "why" }, text(s.r)),
      ];
      const who = (s) => (s.k || []).map((k) => {
        const signer = data.signers[data.facts[k].n];
        return el("span", { class: "who" }, el("bdi", null, signer.name), " ", el("code", null, tail(signer.id)));
      });
      cell.append(el("h3", null, "Signatures"), el("div", { class: "scroll" }, el("table", null,
        el("thead", null, el("tr", null, ...head.map((name) => el("th", { scope: "col" }, name)))),
        el("tbody", null, ...d.s.map((s) => el("tr", null,
          el("td", null, text(s.w)), el("td", null, ...result(s)), el("td", null, ...who(s)),
          el("td", null, s.t === undefined ? "" : `${time(s.t, 16)} UTC`),
          el("td", null, text(s.o)), el("td", null, text(s.f))))))));
      const facts = [...new Set(d.s.flatMap((s) => s.k || []))];
      if (facts.length) cell.append(el("h3", null, "Signers"));
      for (const index of facts) {
        cell.append(el("dl", null, ...data.facts[index].f.flatMap(([name, value]) =>
          [el("dt", null, name), el("dd", null, el("bdi", null, value))])));
      }
    } else {
      cell.append(el("p", { class: "note" }, "No signature was looked at."));
    }
    return el("tr", { class: "detail", id: `detail-${row.index}` }, cell);
  }

  function toggle(tr) {
    const index = Number(tr.dataset.row);
    if (open.has(index)) open.delete(index); else open.add(index);
    if (tr.nextElementSibling && tr.nextElementSibling.id === `detail-${index}`) tr.nextElementSibling.remove();
    const fresh = line(rows[index]);
    tr.replaceWith(fresh);
    if (open.has(index)) fresh.after(details(rows[index]));
    fresh.querySelector(".toggle").focus({ preventScroll: true });
  }

  // --- what people do ------------------------------------------------------

  function sortBy(column, down) {
    Object.assign(state, { sort: column, down });
    select();
  }

  function turn(page) {
    state.page = page;
    render();
    byId("images").scrollIntoView();
  }

  body.addEventListener("click", (event) => {
    const tr = event.target.closest("tr.row");
    // Who marks text with the mouse wants to copy it.
    if (tr && (event.target.closest("button") || String(getSelection()) === "")) toggle(tr);
  });
  for (const button of document.querySelectorAll("[data-sort]")) {
    button.addEventListener("click", () => {
      const column = button.dataset.sort;
      sortBy(column, column === state.sort ? !state.down : false);
    });
  }
  for (const kind of ["verdict", "signer", "age"]) {
    byId(kind).addEventListener("change", () => { state[kind] = byId(kind).value; select(); });
    for (const button of document.querySelectorAll(`figure [data-${kind}]`)) {
      button.disabled = false;
      button.addEventListener("click", () => {
        const value = button.dataset[kind];
        state[kind] = state[kind] === value ? "" : value;
        select();
      });
    }
  }
  byId("sort").addEventListener("change", () => {
    const [column, way] = byId("sort").value.split(" ");
    sortBy(column, way === "down");
  });
  byId("search").addEventListener("input", () => { state.search = byId("search").value; select(); });
  byId("clear").addEventListener("click", () => {
    Object.assign(state, { search: "", verdict: "", signer: "", age: "" });
    byId("search").value = "";
    select();
  });
  byId("rows").addEventListener("change", () => { state.page = 0; render(); });
  byId("first").addEventListener("click", () => turn(0));
  byId("previous").addEventListener("click", () => turn(state.page - 1));
  byId("next").addEventListener("click", () => turn(state.page + 1));
  byId("last").addEventListener("click", () => turn(Math.ceil(shown.length / Number(byId("rows").value)) - 1));
  // Paper has no pages to turn.
  addEventListener("beforeprint", () => fill(shown));
  addEventListener("afterprint", render);

  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (document.documentElement.dataset.theme || (dark.matches ? "dark" : "light")) === "dark";
  const label = () => { byId("theme").textContent = isDark() ? "Light" : "Dark"; };
  byId("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    label();
  });
  dark.addEventListener("change", label);
  label();

  // The most used signers; the search finds the others.
  for (const [n, count] of data.order.slice(0, CHOICES)) {
    byId("signer").append(el("option", { value: n }, `${data.signers[n].name} ${tail(data.signers[n].id)} (${count})`));
  }
  for (const id of ["app", "theme"]) byId(id).hidden = false;
  select();
})();
