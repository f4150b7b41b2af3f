// The settings as a form, with the API key and the conversations' way in and out.

import { byId, element } from './dom.js'
import { apiKey, isKeyRemembered, setApiKey } from './key.js'
import { NUMBERS, parseNumber } from './settings.js'

/**
 * Makes the dialog work.
 *
 * `settings()` and `defaults()` give what holds now; `save(settings)`, `exportAll()`,
 * `importText(text)` and `deleteAll()` do what the buttons say; `keyChanged()` follows a new key.
 */
export function startSettings(handlers) {
  const dialog = byId('settings')
  const form = byId('settings-form')
  const fields = NUMBERS.map(numberField)
  byId('sampling-fields').append(...fields.map(({ node }) => node))

  byId('open-settings').addEventListener('click', () => {
    const settings = handlers.settings()
    form.system.value = settings.system
    form.key.value = apiKey()
    form.remember.checked = isKeyRemembered()
    for (const field of fields) field.show(settings[field.name], handlers.defaults()[field.name])
    dialog.showModal()
  })
  byId('settings-cancel').addEventListener('click', () => dialog.close())
  form.addEventListener('submit', (event) => {
    event.preventDefault()
    const wrong = fields.filter((field) => !field.check())
    if (wrong.length > 0) {
      wrong[0].input.focus()
      return
    }
    const numbers = Object.fromEntries(fields.map((field) => [field.name, field.value()]))
    handlers.save({ ...handlers.settings(), ...numbers, system: form.system.value })
    const key = form.key.value.trim()
    if (key !== apiKey() || form.remember.checked !== isKeyRemembered()) {
      setApiKey(key, form.remember.checked)
      handlers.keyChanged()
    }
    dialog.close()
  })
  startTransfer(dialog, handlers)
}

function startTransfer(dialog, handlers) {
  const file = byId('import-file')
  byId('export').addEventListener('click', handlers.exportAll)
  byId('import').addEventListener('click', () => file.click())
  file.addEventListener('change', async () => {
    const [chosen] = file.files
    if (!chosen) return
    const text = await chosen.text()
    file.value = ''
    dialog.close()
    handlers.importText(text)
  })
  byId('delete-all').addEventListener('click', () => {
    dialog.close()
    handlers.deleteAll()
  })
}

/** A number with its label, the server's value while it is empty, and what is wrong with it. */
function numberField(field) {
  const id = `set-${field.name}`
  const input = element('input', { id, name: field.name, type: 'text', inputmode: field.whole ? 'numeric' : 'decimal', autocomplete: 'off', 'aria-describedby': `${id}-wrong` })
  const wrong = element('span', { id: `${id}-wrong`, class: 'wrong', role: 'alert' })
  const mark = (sentence) => {
    wrong.textContent = sentence
    input.setAttribute('aria-invalid', String(sentence !== ''))
  }
  return {
    name: field.name,
    input,
    node: element('div', { class: 'field' }, element('label', { for: id }, field.label), input, wrong),
    value: () => parseNumber(field, input.value),
    show(value, byServer) {
      input.value = value ?? ''
      input.placeholder = typeof byServer === 'number' && byServer >= 0 ? String(Number(byServer.toPrecision(6))) : 'Server’s choice'
      mark('')
    },
    check() {
      try {
        parseNumber(field, input.value)
        mark('')
        return true
      } catch (error) {
        mark(error.message)
        return false
      }
    },
  }
}
