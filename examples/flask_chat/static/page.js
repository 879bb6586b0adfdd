/** Elements of the page. Text goes in as text, never as HTML: whoever wrote it is not trusted. */

/** @param {string} id */
export const byId = (id) => document.getElementById(id);

/**
 * @param {string} tag
 * @param {{class?: string, text?: string} & Record<string, unknown>} properties
 * @param {...Node} children
 */
export function make(tag, { class: className = "", text = "", ...properties } = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  if (className) element.className = className;
  if (text) element.textContent = text;
  element.append(...children);
  return element;
}
