// Light, dark, or as the system has it. The colours themselves are in style/colours.css.

import { byId, setIcon } from './dom.js'

const NAME = 'apr.theme'
const NEXT = { auto: 'light', light: 'dark', dark: 'auto' }
const ICONS = { auto: 'auto', light: 'sun', dark: 'moon' }
const CALLED = { auto: 'as the system', light: 'light', dark: 'dark' }

/** Makes the button in the header go round the three. */
export function startTheme() {
  const button = byId('switch-theme')
  let theme = document.documentElement.dataset.theme ?? 'auto'
  const show = () => {
    if (theme === 'auto') delete document.documentElement.dataset.theme
    else document.documentElement.dataset.theme = theme
    setIcon(button, ICONS[theme])
    const label = `Colours: ${CALLED[theme]}. Change to ${CALLED[NEXT[theme]]}`
    button.setAttribute('aria-label', label)
    button.title = label
  }
  button.addEventListener('click', () => {
    theme = NEXT[theme]
    show()
    try {
      localStorage.setItem(NAME, theme)
    } catch {
      // The choice lasts as long as the page.
    }
  })
  show()
}
