/** Elements of the page. Text goes in as text, never as HTML: whoever wrote it is not trusted. */

/** @param {string} id */
export const byId = (id) => document.getElementById(id);

/**
 * Properties with a hyphen are attributes: aria-hidden, since not every browser has ariaHidden.
 *
 * @param {string} tag
 * @param {{class?: string, text?: string} & Record<string, unknown>} properties
 * @param {...Node} children
 */
export function make(tag, { class: className = "", text = "", ...properties } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  if (className) element.className = className;
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}
