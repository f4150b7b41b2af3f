// Making and finding elements. Text becomes text nodes: the page has no place where a string
// is read as HTML.

/** Returns the element of `index.html` with this id. */
export function byId(id) {
  return document.getElementById(id)
}

/**
 * Makes an element.
 *
 * Properties whose name starts with `on` are listeners, the others are attributes; those that
 * are `null` or `false` are left out. Children are nodes or texts.
 */
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false) continue
    if (name.startsWith('on')) made.addEventListener(name.slice(2), value)
    else made.setAttribute(name, value === true ? '' : value)
  }
  made.append(...children)
  return made
}

const SVG = 'http://www.w3.org/2000/svg'

/** Returns one of the icons that `index.html` draws; it says nothing to a screen reader. */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg')
  svg.setAttribute('class', 'icon')
  svg.setAttribute('aria-hidden', 'true')
  const use = document.createElementNS(SVG, 'use')
  use.setAttribute('href', `#i-${name}`)
  svg.append(use)
  return svg
}

/** Returns a button that shows an icon and is called `label`. */
export function iconButton(name, label, onclick) {
  const attributes = { type: 'button', class: 'icon-button small', 'aria-label': label, title: label, onclick }
  return element('button', attributes, icon(name))
}

/** Shows another icon in a button. */
export function setIcon(button, name) {
  button.querySelector('use').setAttribute('href', `#i-${name}`)
}
