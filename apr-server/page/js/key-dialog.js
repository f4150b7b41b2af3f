// Asking for the server's API key.

import { byId } from './dom.js'
import { apiKey, setApiKey } from './key.js'

/** Makes the dialog work; `keyChanged` is called with the new key in place. */
export function startKeyDialog(keyChanged) {
  const dialog = byId('key-dialog')
  byId('key-cancel').addEventListener('click', () => dialog.close())
  byId('key-form').addEventListener('submit', (event) => {
    event.preventDefault()
    setApiKey(byId('key-input').value.trim(), byId('key-remember').checked)
    dialog.close()
    keyChanged()
  })
}

/** Asks, if it is not being asked already. */
export function askForKey() {
  if (byId('key-dialog').open) return
  const isWrong = apiKey() !== ''
  byId('key-help').textContent = isWrong ? 'The key that this page has is not accepted.' : 'Whoever runs it has set one or several API keys.'
  byId('key-input').value = ''
  byId('key-dialog').showModal()
}
