// Words to the user beside the conversation: a notice that may offer one action (undo), and
// announcements that only a screen reader hears.

import { byId } from './dom.js'

const SHOWN_MS = 12_000

let timer
let act = null

/** Shows a notice until it is dismissed, replaced or, unless it is `lasting`, 12 seconds old. */
export function notify(text, { action = null, label = 'Undo', lasting = false } = {}) {
  act = action
  byId('notice-text').textContent = text
  byId('notice-action').textContent = label
  byId('notice-action').hidden = action === null
  byId('notice').hidden = false
  announce(action ? `${text} ${label} is beside the message box.` : text)
  clearTimeout(timer)
  if (!lasting) timer = setTimeout(hideUnlessUsed, SHOWN_MS)
}

/** Takes the notice away. */
export function dismissNotice() {
  clearTimeout(timer)
  act = null
  byId('notice').hidden = true
}

/** Has a screen reader say something. */
export function announce(text) {
  byId('announcer').textContent = text
}

/** Makes the notice's buttons work. */
export function startNotices() {
  byId('notice-close').addEventListener('click', leave)
  byId('notice-action').addEventListener('click', () => {
    const action = act
    leave()
    action?.()
  })
}

function leave() {
  dismissNotice()
  byId('prompt').focus()
}

/** Nothing disappears from under a pointer or the focus. */
function hideUnlessUsed() {
  const notice = byId('notice')
  if (notice.matches(':hover, :focus-within')) timer = setTimeout(hideUnlessUsed, SHOWN_MS)
  else dismissNotice()
}
