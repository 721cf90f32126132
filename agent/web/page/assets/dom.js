// Small helpers for the document. All of them set text, never HTML: names and errors come
// from elsewhere.

export const byId = id => document.getElementById(id);

// h creates an element. Properties that start with "aria-" or "data-", role and the like
// become attributes; the others are set as they are.
export function h(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in node && !key.includes("-")) node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
}

const svgSpace = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(svgSpace, tag);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.append(...children);
  return node;
}

// setText changes the text of an element that has nothing but text. An element whose text
// stays is not touched, so a selection in it survives.
export function setText(node, text) {
  const first = node.firstChild;
  if (!first) {
    if (text !== "") node.append(text);
  } else if (first.data !== text) {
    first.data = text;
  }
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export function setHidden(node, hidden) {
  if (node.hidden !== hidden) node.hidden = hidden;
}

export function setDisabled(node, disabled) {
  if (node.disabled !== disabled) node.disabled = disabled;
}

// fillTable replaces the rows of a table body with rows of texts, cell by cell, and touches
// only what differs.
export function fillTable(body, rows, numeric = []) {
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((texts, i) => {
    const row = body.rows[i] ?? body.insertRow();
    texts.forEach((text, j) => {
      const cell = row.cells[j] ?? row.insertCell();
      if (numeric[j]) setAttribute(cell, "class", "num");
      setText(cell, text);
    });
  });
}
