// A box for text that is as tall as its text, up to what the style allows.

/** Makes a textarea grow. Most browsers do that by style; the others are helped. */
export function growing(textarea) {
  if (CSS.supports('field-sizing', 'content')) return
  const fit = () => {
    textarea.style.height = 'auto'
    textarea.style.height = `${textarea.scrollHeight}px`
  }
  textarea.addEventListener('input', fit)
  fit()
}
