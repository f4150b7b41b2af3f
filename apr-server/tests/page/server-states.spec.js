// A server that wants a key, is loading, or offers several models.

import { expect, realServer, test } from './fixture.js'

test.skip(realServer !== null, 'needs the mock server')

test.describe('a server with a key', () => {
  test.use({ mock: { apiKey: 'secret' } })

  test('the page asks for the key and uses it until the tab is closed', async ({ chat, page, context, server }) => {
    const dialog = page.getByRole('dialog')
    await expect(dialog).toBeVisible()
    await dialog.getByLabel('API key').fill('wrong')
    await page.keyboard.press('Enter')
    await expect(dialog).toContainText('is not accepted')
    await dialog.getByLabel('API key').fill('secret')
    await page.keyboard.press('Enter')
    await expect(dialog).toBeHidden()
    await chat.ask('Hello.')
    await expect(chat.answer).toContainText('You said: Hello.')
    await page.reload()
    await chat.ask('Again.')
    const other = await context.newPage()
    await other.goto(server.url)
    await expect(other.getByRole('dialog')).toBeVisible()
  })

  test('a key can be kept in the browser', async ({ chat, page, context, server }) => {
    await page.getByRole('dialog').getByLabel('API key').fill('secret')
    await page.getByRole('checkbox').check()
    await page.getByRole('button', { name: 'Use this key' }).click()
    await chat.ask('Hello.')
    const other = await context.newPage()
    await other.goto(server.url)
    await expect(other.getByRole('heading', { name: 'qwen3-30b-a3b' })).toBeVisible()
  })

  test('a message that was refused for its key is sent with the next one', async ({ chat, page, server }) => {
    await page.getByRole('dialog').getByLabel('API key').fill('secret')
    await page.keyboard.press('Enter')
    await expect(page.getByRole('heading', { name: 'qwen3-30b-a3b' })).toBeVisible()
    server.changeKey('new')
    await chat.ask('Hello.')
    await expect(page.getByRole('dialog')).toBeVisible()
    await page.getByRole('dialog').getByLabel('API key').fill('new')
    await page.keyboard.press('Enter')
    await expect(chat.answer).toContainText('You said: Hello.')
    await expect(chat.answers).toHaveCount(1)
  })
})

test.describe('a server that is loading', () => {
  test.use({ mock: { loadingMs: 2500 } })

  test('the page waits for the model, and what was written is not lost', async ({ chat, page }) => {
    await expect(page.getByText('The model is loading…')).toBeVisible()
    await chat.prompt.fill('Hello.')
    await chat.prompt.press('Enter')
    await expect(chat.prompt).toHaveValue('Hello.')
    await expect(page.getByText('The model is loading…')).toBeHidden({ timeout: 10_000 })
    await chat.prompt.press('Enter')
    await expect(chat.answer).toContainText('You said: Hello.')
  })
})

test.describe('a server with two models that do not think', () => {
  test.use({ mock: { models: ['one', 'two'], thinks: false } })

  test('a model is chosen, and thinking is not offered', async ({ chat, page, server }) => {
    await page.getByLabel('Model').selectOption('two')
    await expect(page.getByRole('button', { name: 'Think first' })).toBeHidden()
    await chat.ask('Hello.')
    expect(server.seen.bodies[0].model).toBe('two')
    expect(server.seen.bodies[0]).not.toHaveProperty('chat_template_kwargs')
  })
})
