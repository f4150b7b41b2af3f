// The page: holds the parts together. What happens is decided here, how it looks and how it is
// kept is the business of the parts.

import { Composer } from './composer.js'
import { read, write } from './conversation-file.js'
import { Conversations } from './conversations.js'
import { byId, element } from './dom.js'
import { askForKey, startKeyDialog } from './key-dialog.js'
import { isNewChat } from './keys.js'
import { announce, notify, startNotices } from './notice.js'
import { ServerState } from './server-state.js'
import { startSettings } from './settings-dialog.js'
import { loadSettings, requestBody, saveSettings } from './settings.js'
import { Sidebar } from './sidebar.js'
import { startTheme } from './theme.js'
import { Thread } from './thread.js'
import { Turn } from './turn.js'

const server = new ServerState()
const conversations = new Conversations()
/** Answers on their way, by conversation. */
const turns = new Map()
/** The answer that was refused for want of a key. */
let refused = null
let settings = loadSettings()

const composer = new Composer()
const thread = new Thread({ edit, again })
const sidebar = new Sidebar({ rename: (conversation, title) => conversations.rename(conversation, title), remove: (conversation) => remove([conversation]) })

/** Returns the conversation that the address names, or `undefined` for a new one. */
function current() {
  return conversations.find(location.hash.slice(1))
}

function show() {
  const conversation = current()
  const turn = turns.get(conversation?.id) ?? null
  document.title = conversation ? `${conversation.title} · apr` : 'apr'
  thread.show(conversation?.messages ?? [], turn)
  showControls()
}

function showControls() {
  const id = current()?.id
  sidebar.show(conversations.list, id, (other) => turns.has(other))
  composer.update({ phase: server.phase, isRunning: turns.has(id), canThink: server.canThink, thinks: settings.thinking })
}

function showModels() {
  const chosen = server.models.includes(settings.model) ? settings.model : server.models[0]
  const choice = byId('model-choice')
  const several = server.models.length > 1
  choice.replaceChildren(...server.models.map((id) => element('option', { value: id, selected: id === chosen }, id)))
  choice.hidden = !several
  byId('model-name').textContent = chosen ?? 'apr'
  byId('model-name').classList.toggle('hidden', several)
}

// Talking.

function send(text) {
  const conversation = current() ?? conversations.create(text)
  conversation.messages.push({ role: 'user', content: text })
  start(conversation)
}

function edit(message, text) {
  const conversation = current()
  replaceFrom(conversation, conversation.messages.indexOf(message), 'Edited; what followed was removed.')
  conversation.messages.push({ role: 'user', content: text })
  start(conversation)
}

function again(message) {
  const conversation = current()
  const isLast = conversation.messages.at(-1) === message
  const words = isLast ? 'The earlier answer was removed.' : 'The earlier answer and what followed were removed.'
  replaceFrom(conversation, conversation.messages.indexOf(message), words)
  start(conversation)
}

/** Cuts a conversation, with a way back. */
function replaceFrom(conversation, at, words) {
  turns.get(conversation.id)?.stop()
  const before = conversation.messages
  conversation.messages = before.slice(0, at)
  // An answer that never began is not missed.
  if (at === before.length - 1 && before[at].content === '' && before[at].reasoning === '') return
  const undo = () => {
    turns.get(conversation.id)?.stop()
    turns.delete(conversation.id)
    conversation.messages = before
    conversations.changed(conversation)
    show()
  }
  notify(words, { action: undo })
}

async function start(conversation) {
  const body = requestBody(conversation.messages, settings, server)
  const turn = new Turn(conversation)
  turns.set(conversation.id, turn)
  turn.addEventListener('progress', () => {
    conversations.changing(conversation)
    if (turns.get(conversation.id) === turn && current() === conversation) thread.refresh()
  })
  conversations.changed(conversation)
  if (current() === conversation) show()
  else location.hash = conversation.id
  thread.toEnd()
  await turn.run(body)
  if (turns.get(conversation.id) === turn) ended(turn)
}

function ended(turn) {
  const { conversation, message, error } = turn
  turns.delete(conversation.id)
  conversations.changed(conversation)
  if (current() === conversation) show()
  const isShown = current() === conversation
  announce(message.error ?? (isShown ? `Answer: ${message.content.slice(0, 2000)}` : `An answer to “${conversation.title}” is complete.`))
  if (error?.status === 401) {
    refused = turn
    askForKey()
  }
  if (error?.status === 503 || error?.status === 0) server.connect()
}

function stop() {
  turns.get(current()?.id)?.stop()
}

function newChat() {
  location.hash = ''
  composer.focus()
}

// Keeping.

function remove(gone) {
  const wasCurrent = gone.includes(current())
  for (const { id } of gone) turns.get(id)?.stop()
  conversations.remove(gone)
  if (wasCurrent) newChat()
  const words = gone.length === 1 ? `Deleted “${gone[0].title}”.` : `Deleted ${gone.length} conversations.`
  const undo = () => {
    conversations.add(gone)
    if (wasCurrent && gone.length === 1) location.hash = gone[0].id
  }
  notify(words, { action: undo })
  composer.focus()
}

function exportAll() {
  const address = URL.createObjectURL(new Blob([write(conversations.list)], { type: 'application/json' }))
  const day = new Date().toISOString().slice(0, 10)
  element('a', { href: address, download: `apr-conversations-${day}.json` }).click()
  setTimeout(() => URL.revokeObjectURL(address), 60_000)
}

function importText(text) {
  try {
    const added = read(text)
    const replaced = added.map(({ id }) => conversations.find(id)).filter(Boolean)
    conversations.add(added)
    const undo = () => {
      conversations.remove(added)
      conversations.add(replaced)
    }
    const known = replaced.length > 0 ? `, ${replaced.length} in place of older ones` : ''
    notify(`Imported ${added.length === 1 ? 'one conversation' : `${added.length} conversations`}${known}.`, { action: undo })
  } catch (error) {
    notify(error.message, { lasting: true })
  }
}

function change(part) {
  settings = { ...settings, ...part }
  try {
    saveSettings(settings)
  } catch (error) {
    notify(`The settings hold until the page is closed; this browser does not keep them (${error.name}).`, { lasting: true })
  }
  showControls()
}

// Listening.

function keydown(event) {
  if (isNewChat(event)) {
    event.preventDefault()
    sidebar.close()
    newChat()
  } else if (event.key === 'Escape' && !event.defaultPrevented && !document.querySelector('dialog[open]')) {
    if (!sidebar.close()) stop()
  }
}

async function useNewKey() {
  composer.focus()
  await server.connect()
  const { conversation, message } = refused ?? {}
  refused = null
  if (server.phase !== 'ready' || conversation?.messages.at(-1) !== message || !message) return
  conversation.messages.pop()
  start(conversation)
}

startTheme()
startNotices()
startKeyDialog(useNewKey)
startSettings({
  settings: () => settings,
  defaults: () => server.defaults,
  save: change,
  exportAll,
  importText,
  deleteAll: () => conversations.list.length > 0 && remove(conversations.list),
  keyChanged: useNewKey,
})

composer.addEventListener('send', ({ detail }) => send(detail))
composer.addEventListener('stop', stop)
composer.addEventListener('thinking', ({ detail }) => change({ thinking: detail }))
byId('model-choice').addEventListener('change', ({ target }) => change({ model: target.value }))
byId('new-chat').addEventListener('click', (event) => {
  event.preventDefault()
  sidebar.close()
  newChat()
})
byId('new-chat-short').addEventListener('click', newChat)
byId('skip').addEventListener('click', (event) => {
  event.preventDefault()
  composer.focus()
})
addEventListener('keydown', keydown)
addEventListener('hashchange', () => {
  sidebar.close()
  show()
  thread.toEnd()
})
conversations.isRunning = (id) => turns.has(id)
conversations.addEventListener('trouble', ({ detail }) => notify(detail, { lasting: true }))
conversations.addEventListener('change', ({ detail }) => (detail.id === current()?.id || detail.elsewhere ? show() : showControls()))
server.addEventListener('change', () => {
  showModels()
  showControls()
  if (server.phase === 'locked') askForKey()
})

server.connect()
await conversations.load()
show()
thread.toEnd()
composer.focus()
