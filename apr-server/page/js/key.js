// The API key: kept until the tab is closed, or in the browser if the user says so. Where the
// browser stores nothing, it lasts as long as the page.

const NAME = 'apr.key'

let held = null

/** Returns the key, or `''`. */
export function apiKey() {
  return held ?? stored(() => sessionStorage.getItem(NAME)) ?? stored(() => localStorage.getItem(NAME)) ?? ''
}

/** Returns whether the key outlives the tab. */
export function isKeyRemembered() {
  return stored(() => localStorage.getItem(NAME)) !== null
}

/** Keeps a key; `''` forgets it. */
export function setApiKey(key, remember) {
  held = key
  stored(() => sessionStorage.removeItem(NAME))
  stored(() => localStorage.removeItem(NAME))
  if (key !== '') stored(() => (remember ? localStorage : sessionStorage).setItem(NAME, key))
}

function stored(action) {
  try {
    return action()
  } catch {
    return null
  }
}
