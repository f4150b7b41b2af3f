// Everyone can use it: by keyboard alone, on a phone, in light and dark, with a screen reader.

import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'

import { devices } from '@playwright/test'

import { expect, realServer, test } from './fixture.js'

test.skip(realServer !== null, 'needs the scenarios of the mock server')

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

/** Returns what axe-core finds wrong, as short sentences. */
async function violations(page) {
  // An evaluated expression is outside the page's policy.
  await page.evaluate(axe)
  const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'] }))
  return violations.flatMap(({ id, impact, nodes }) => nodes.map(({ target, failureSummary }) => `${impact} ${id}: ${target} ${failureSummary}`))
}

for (const colorScheme of ['light', 'dark']) {
  test.describe(`in ${colorScheme}`, () => {
    test.use({ colorScheme, reducedMotion: 'reduce' })

    test('axe-core finds nothing wrong, whatever is shown', async ({ chat, page }) => {
      expect(await violations(page), 'empty').toEqual([])
      await chat.ask('Think, then show me Markdown.')
      await chat.ask('This is too long.')
      await chat.answers.first().getByText(/^Thought/).click()
      await chat.questions.first().hover()
      expect(await violations(page), 'a conversation').toEqual([])
      await chat.questions.first().getByRole('button', { name: 'Edit message' }).click()
      expect(await violations(page), 'an edit').toEqual([])
      await page.keyboard.press('Escape')
      await page.getByRole('button', { name: 'Settings' }).click()
      await page.getByLabel('Top p').fill('2')
      await page.getByRole('button', { name: 'Save' }).click()
      expect(await violations(page), 'settings').toEqual([])
    })
  })
}

test('the colours follow the system until they are chosen', async ({ chat, page }) => {
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
  const light = await ground()
  await page.emulateMedia({ colorScheme: 'dark' })
  const dark = await ground()
  expect(dark).not.toBe(light)
  await page.getByRole('button', { name: /^Colours: as the system/ }).click()
  expect(await ground()).toBe(light)
  await page.getByRole('button', { name: /^Colours: light/ }).click()
  await page.emulateMedia({ colorScheme: 'light' })
  expect(await ground()).toBe(dark)
  await page.reload()
  expect(await ground()).toBe(dark)
  await expect(chat.prompt).toBeVisible()
})

test('everything can be done by keyboard', async ({ chat, page }) => {
  const focused = () => page.evaluate(() => document.activeElement.getAttribute('aria-label') ?? document.activeElement.textContent.trim() ?? '')
  const tabTo = async (name, key = 'Tab') => {
    for (let n = 0; n < 40; n += 1) {
      if ((await focused()).startsWith(name)) return
      await page.keyboard.press(key)
    }
    throw new Error(`no way to ${name} by ${key}`)
  }
  await expect(chat.prompt).toBeFocused()
  await page.keyboard.type('One')
  await page.keyboard.press('Shift+Enter')
  await page.keyboard.type('two')
  await expect(page.getByRole('button', { name: 'Send', exact: true })).toBeEnabled()
  await page.keyboard.press('Enter')
  await chat.finished()
  await expect(chat.said).toHaveText(['One\ntwo'], { useInnerText: true })
  await expect(chat.prompt).toBeFocused()

  await tabTo('Edit message', 'Shift+Tab')
  await page.keyboard.press('Enter')
  await page.keyboard.press('Control+a')
  await page.keyboard.type('Think.')
  await page.keyboard.press('Enter')
  await chat.finished()
  await tabTo('Thought', 'Shift+Tab')
  await page.keyboard.press('Enter')
  await expect(chat.answer.getByText('First I look at it')).toBeVisible()
  await tabTo('Regenerate')
  await page.keyboard.press('Enter')
  await expect(chat.answer).toHaveAttribute('aria-busy', 'true')
  await chat.finished()
  await page.keyboard.press('Control+k')
  await expect(chat.prompt).toBeFocused()
  await expect(chat.questions).toHaveCount(0)

  await tabTo('Settings', 'Shift+Tab')
  await page.keyboard.press('Enter')
  await expect(page.getByRole('dialog')).toBeVisible()
  await page.keyboard.press('Escape')
  await expect(page.getByRole('dialog')).toBeHidden()
  expect(await focused()).toBe('Settings')
  await tabTo('Delete', 'Shift+Tab')
  await page.keyboard.press('Enter')
  await tabTo('Undo', 'Shift+Tab')
  await page.keyboard.press('Enter')
  await expect(chat.entries).toHaveText(['One'])
})

test('Enter that ends a word of an input method does not send', async ({ chat }) => {
  await chat.prompt.fill('日本')
  await chat.prompt.dispatchEvent('keydown', { key: 'Enter', isComposing: true })
  await expect(chat.questions).toHaveCount(0)
  await expect(chat.prompt).toHaveValue('日本')
})

test('a screen reader hears an answer once, when it is complete', async ({ chat, page }) => {
  await page.evaluate(() => {
    window.heard = []
    new MutationObserver(() => window.heard.push(document.getElementById('announcer').textContent)).observe(document.getElementById('announcer'), { childList: true })
  })
  await chat.ask('Good morning.')
  expect(await page.evaluate(() => window.heard)).toEqual(['Answer: You said: Good morning.'])
  expect(await chat.answer.evaluate((node) => node.closest('[aria-live], [role=log], [role=status]'))).toBeNull()
})

test.describe('on a phone', () => {
  const { viewport, userAgent, deviceScaleFactor, isMobile, hasTouch } = devices['Pixel 7']
  test.use({ viewport, userAgent, deviceScaleFactor, isMobile, hasTouch })

  test('the page fits, and the list is a drawer', async ({ chat, page }) => {
    await expect(page.getByRole('navigation')).toBeHidden()
    await chat.prompt.fill('Markdown, please.')
    await chat.prompt.press('Enter')
    await expect(chat.prompt).toHaveValue('Markdown, please.\n')
    await page.getByRole('button', { name: 'Send', exact: true }).tap()
    await chat.finished()
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
    expect(overflow).toBeLessThanOrEqual(0)
    await page.getByRole('button', { name: 'Conversations', exact: true }).tap()
    await expect(page.getByRole('navigation')).toBeVisible()
    expect(await violations(page)).toEqual([])
    await page.getByRole('link', { name: 'New chat' }).tap()
    await expect(page.getByRole('navigation')).toBeHidden()
    await expect(chat.questions).toHaveCount(0)
    await page.getByRole('button', { name: 'Conversations', exact: true }).tap()
    await chat.entries.first().tap()
    await expect(chat.said).toHaveText(['Markdown, please.'])
    await expect(page.getByRole('navigation')).toBeHidden()
    expect(await violations(page)).toEqual([])
  })

  test('everything that is tapped is large enough', async ({ chat, page }) => {
    await chat.prompt.fill('Hello.')
    await page.getByRole('button', { name: 'Send', exact: true }).tap()
    await chat.finished()
    const small = await page.locator('button:visible').evaluateAll((buttons) =>
      buttons.map((button) => [button.getAttribute('aria-label'), button.getBoundingClientRect()]).filter(([, { width, height }]) => Math.min(width, height) < 28),
    )
    expect(small).toEqual([])
  })
})
