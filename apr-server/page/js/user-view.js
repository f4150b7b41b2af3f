// What the user said, and the box in which it is edited.

import { copyFrom } from './clipboard.js'
import { element, iconButton } from './dom.js'
import { isSend } from './keys.js'
import { growing } from './text-box.js'

/** One message of the user. `edit(message, text)` is called when it is sent anew. */
export class UserView {
  #body = element('div', { class: 'bubble' })

  constructor(message, { edit }) {
    this.message = message
    this.#body.textContent = message.content
    const copy = iconButton('copy', 'Copy message', () => copyFrom(copy, () => message.content))
    this.#editButton = iconButton('pencil', 'Edit message', () => this.#open(edit))
    this.#actions = element('div', { class: 'actions' }, copy, this.#editButton)
    this.element = element('article', { class: 'message user', 'aria-label': 'You' }, element('h2', { class: 'hidden' }, 'You'), this.#body, this.#actions)
  }

  #actions
  #editButton

  /** A user's message does not change by itself. */
  update() {}

  #open(edit) {
    const box = element('textarea', { rows: '1', 'aria-label': 'Edit message' })
    box.value = this.message.content
    const close = () => {
      form.replaceWith(this.#body, this.#actions)
      this.#editButton.focus()
    }
    const send = () => {
      const text = box.value.trim()
      if (text === '') return
      close()
      edit(this.message, text)
    }
    const form = element(
      'form',
      { class: 'editor', onsubmit: (event) => (event.preventDefault(), send()) },
      box,
      element(
        'div',
        { class: 'row end' },
        element('button', { type: 'button', onclick: close }, 'Cancel'),
        element('button', { type: 'submit', class: 'primary' }, 'Send'),
      ),
    )
    box.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') close()
      else if (isSend(event)) send()
      else return
      event.preventDefault()
      event.stopPropagation()
    })
    this.#actions.remove()
    this.#body.replaceWith(form)
    growing(box)
    box.focus()
  }
}
