// The list of conversations, and on a phone the drawer that holds it.

import { byId, element, iconButton } from './dom.js'
import { hasCommandKey } from './keys.js'

const isNarrow = matchMedia('(max-width: 48rem)')
const CLOSED = 'apr.sidebar'

/** Shows the list; `rename(conversation, title)` and `remove(conversation)` change it. */
export class Sidebar {
  #list = byId('conversation-list')
  #handlers
  #isOpen

  constructor(handlers) {
    this.#handlers = handlers
    if (hasCommandKey) byId('new-chat-keys').textContent = '⌘ K'
    byId('toggle-sidebar').addEventListener('click', () => this.#toggle(!this.#isOpen, true))
    byId('backdrop').addEventListener('click', () => this.close())
    isNarrow.addEventListener('change', () => this.#toggle(!isNarrow.matches))
    this.#toggle(!isNarrow.matches && !wasClosed())
  }

  /** Closes the drawer; returns whether it was open. Beside the page the list stays. */
  close() {
    const closes = isNarrow.matches && this.#isOpen
    if (closes) {
      this.#toggle(false)
      byId('toggle-sidebar').focus()
    }
    return closes
  }

  /** Shows conversations; `isRunning(id)` says to which an answer is arriving. */
  show(conversations, currentId, isRunning) {
    if (this.#list.querySelector('input')) return
    const focused = this.#list.contains(document.activeElement) ? document.activeElement.dataset.key : null
    const entries = conversations.map((conversation) => this.#entry(conversation, conversation.id === currentId, isRunning(conversation.id)))
    this.#list.replaceChildren(...entries)
    if (focused) this.#focus(focused)
  }

  #entry(conversation, isCurrent, runs) {
    const { id, title } = conversation
    const link = element('a', { href: `#${id}`, 'aria-current': isCurrent && 'page', title, 'data-key': `open ${id}` }, element('span', {}, title))
    if (runs) link.append(element('span', { class: 'dot', role: 'img', 'aria-label': 'an answer is arriving' }))
    const entry = element('li', { class: isCurrent && 'current' })
    const rename = iconButton('pencil', `Rename “${title}”`, () => this.#rename(conversation, entry))
    const remove = iconButton('bin', `Delete “${title}”`, () => this.#handlers.remove(conversation))
    rename.dataset.key = `rename ${id}`
    remove.dataset.key = `delete ${id}`
    entry.append(link, element('div', { class: 'entry-actions' }, rename, remove))
    return entry
  }

  #rename(conversation, entry) {
    const box = element('input', { type: 'text', 'aria-label': 'New name', maxlength: '200' })
    box.value = conversation.title
    let isOver = false
    const finish = (keeps) => {
      if (isOver) return
      isOver = true
      const title = box.value.trim()
      box.remove()
      this.#handlers.rename(conversation, keeps && title !== '' ? title : conversation.title)
    }
    box.addEventListener('keydown', (event) => {
      if (event.key !== 'Enter' && event.key !== 'Escape') return
      event.preventDefault()
      event.stopPropagation()
      finish(event.key === 'Enter')
      this.#focus(`open ${conversation.id}`)
    })
    box.addEventListener('blur', () => finish(true))
    entry.replaceChildren(box)
    box.select()
  }

  #focus(key) {
    this.#list.querySelector(`[data-key="${key}"]`)?.focus()
  }

  #toggle(opens, isChosen = false) {
    this.#isOpen = opens
    document.body.classList.toggle('sidebar-open', opens)
    byId('toggle-sidebar').setAttribute('aria-expanded', String(opens))
    byId('page').inert = opens && isNarrow.matches
    if (opens && isNarrow.matches) byId('new-chat').focus()
    if (isChosen && !isNarrow.matches) rememberClosed(!opens)
  }
}

function wasClosed() {
  try {
    return localStorage.getItem(CLOSED) === 'closed'
  } catch {
    return false
  }
}

function rememberClosed(closed) {
  try {
    localStorage.setItem(CLOSED, closed ? 'closed' : 'open')
  } catch {
    // It opens again with the next page.
  }
}
