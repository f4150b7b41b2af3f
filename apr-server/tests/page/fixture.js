// What every test starts from: a server, the page open and ready, and a watch on what it must
// never do: ask anyone but the server, open a dialog, break the policy, throw.

import { test as base, expect } from '@playwright/test'

import { startMock } from './mock-server.js'

/** The address of a real server, if the tests run against one. */
export const realServer = process.env.APR_URL ?? null

export const test = base.extend({
  /** How the mock server is started. */
  mock: [{}, { option: true }],

  server: async ({ mock }, use) => {
    if (realServer) {
      await use({ url: realServer, seen: null })
      return
    }
    const server = await startMock(mock)
    await use(server)
    await server.close()
  },

  /** The page, open. */
  chat: async ({ page, server }, use) => {
    const offences = watch(page, server.url)
    if (realServer) await lengthen(page, 100)
    await page.goto(server.url)
    await use(new Chat(page))
    expect(offences).toEqual([])
  },
})

export { expect }

/** Has every answer of a real server be this long, as small models say little or nothing. */
export async function lengthen(page, max_tokens) {
  await page.route('**/v1/chat/completions', (route) => {
    route.continue({ postData: { ...route.request().postDataJSON(), ignore_eos: true, max_tokens } })
  })
}

/** Notes whatever the page must never do. */
export function watch(page, url) {
  const offences = []
  const { origin } = new URL(url)
  page.on('request', (request) => {
    const address = new URL(request.url())
    if (address.origin !== origin && address.protocol !== 'blob:') offences.push(`asks for ${request.url()}`)
  })
  page.on('dialog', (dialog) => {
    offences.push(`opens a dialog: ${dialog.message()}`)
    dialog.dismiss()
  })
  page.on('pageerror', (error) => offences.push(`throws: ${error.stack}`))
  page.on('console', (message) => {
    if (/Content Security Policy|TrustedScript|TrustedHTML/.test(message.text())) offences.push(message.text())
  })
  return offences
}

/** The page as its user sees it. */
export class Chat {
  constructor(page) {
    this.page = page
    this.prompt = page.getByRole('textbox', { name: 'Message', exact: true })
    this.questions = page.getByRole('article', { name: 'You' })
    this.said = this.questions.locator('.bubble')
    this.answers = page.getByRole('article', { name: 'Answer' })
    this.answer = this.answers.last()
    this.stop = page.getByRole('button', { name: 'Stop' })
    this.entries = page.locator('#conversation-list a')
  }

  /** Writes a message and sends it by Enter. */
  async send(text) {
    await this.prompt.fill(text)
    await expect(this.page.getByRole('button', { name: 'Send', exact: true })).toBeEnabled()
    await this.prompt.press('Enter')
  }

  /** Waits until the last answer is over. */
  async finished() {
    await expect(this.answer).toHaveAttribute('aria-busy', 'false')
  }

  /** Sends a message and waits for the answer. */
  async ask(text) {
    await this.send(text)
    await this.finished()
  }
}
