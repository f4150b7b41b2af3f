// The API key: kept until the tab is closed, or in the browser if the user says so.

const NAME = 'apr.key'

/** Returns the key, or `''`. */
export function apiKey() {
  try {
    return sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME) ?? ''
  } catch {
    return ''
  }
}

/** Returns whether the key outlives the tab. */
export function isKeyRemembered() {
  try {
    return localStorage.getItem(NAME) !== null
  } catch {
    return false
  }
}

/** Keeps a key; `''` forgets it. Throws where the browser refuses to store anything. */
export function setApiKey(key, remember) {
  sessionStorage.removeItem(NAME)
  localStorage.removeItem(NAME)
  if (key !== '') (remember ? localStorage : sessionStorage).setItem(NAME, key)
}
