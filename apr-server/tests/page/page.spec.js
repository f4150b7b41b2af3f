// What a visitor of the page can do. The first group runs against any server, the others need
// the mock's scenarios.

import { expect, lengthen, realServer, test } from './fixture.js'

/** Presses Stop as soon as an answer shows text: a small model would be done before a click. */
function stopAtTheFirstWord(page) {
  return page.evaluate(() => {
    const observer = new MutationObserver(() => {
      if (!document.querySelector('.answer .markdown')?.textContent) return
      observer.disconnect()
      document.getElementById('stop').click()
    })
    observer.observe(document.getElementById('messages'), { childList: true, subtree: true, characterData: true })
  })
}

test.describe('with any server', () => {
  test('a message is sent and its answer streams in', async ({ chat }) => {
    await chat.send('Tell me something, please.')
    await expect(chat.said.last()).toContainText('Tell me something, please.')
    await expect(chat.prompt).toHaveValue('')
    await chat.finished()
    await expect(chat.answer.locator('.markdown')).not.toBeEmpty()
    await expect(chat.answer.locator('.summary')).toContainText(/tok\/s · [\d,]+ of [\d,]+ prompt tokens cached · /)
  })

  test('a stop keeps what has arrived and leaves the page ready', async ({ chat, page }) => {
    if (realServer) await lengthen(page, 3000)
    await stopAtTheFirstWord(page)
    await chat.send('Talk forever.')
    await expect(chat.answer.locator('.markdown')).not.toBeEmpty()
    await chat.finished()
    await expect(chat.answer.locator('.summary')).toContainText('stopped by you')
    await expect(chat.answer.locator('.markdown')).not.toBeEmpty()
    await expect(chat.prompt).toBeFocused()
  })

  test('a conversation is still there after a reload', async ({ chat, page }) => {
    await chat.ask('Remember this.')
    const said = await chat.answer.locator('.markdown').innerText()
    await page.reload()
    await expect(chat.said).toHaveText(['Remember this.'])
    await expect(chat.answer.locator('.markdown')).toHaveText(said, { useInnerText: true })
    await expect(chat.entries).toHaveText(['Remember this.'])
  })
})

test.describe('with the mock server', () => {
  test.skip(realServer !== null, 'needs the scenarios of the mock server')

  test('text appears before the answer is complete', async ({ chat }) => {
    await chat.send('Talk forever.')
    await expect(chat.answer).toContainText('word 3')
    await expect(chat.answer).toHaveAttribute('aria-busy', 'true')
    await expect(chat.answer).toContainText('word 30')
    await chat.stop.click()
  })

  test('the line below an answer says model, speed, cached share and end', async ({ chat }) => {
    await chat.ask('First.')
    await chat.ask('Second.')
    await expect(chat.answer.locator('.summary')).toHaveText('qwen3-30b-a3b · 214 tokens · 12.4 tok/s · 1,812 of 2,048 prompt tokens cached · stop')
  })

  test('the request says what the API needs, and no more', async ({ chat, server }) => {
    await chat.ask('Hello.')
    expect(server.seen.bodies).toEqual([
      {
        model: 'qwen3-30b-a3b',
        messages: [{ role: 'user', content: 'Hello.' }],
        stream: true,
        stream_options: { include_usage: true },
        return_progress: true,
        chat_template_kwargs: { enable_thinking: true },
      },
    ])
  })

  test('the reading of a long prompt shows its progress', async ({ chat }) => {
    await chat.send('A slow prompt.')
    await expect(chat.answer).toContainText('Reading 1,600 of 2,048 tokens, 1,400 cached')
    await expect(chat.answer.getByRole('progressbar')).toHaveAttribute('max', '2048')
    await chat.finished()
    await expect(chat.answer.getByRole('progressbar')).toBeHidden()
    await expect(chat.answer).not.toContainText('Reading')
  })

  test('a stop ends the request', async ({ chat, page, server }) => {
    await chat.send('Talk forever.')
    await expect(chat.answer).toContainText('word 3')
    await page.keyboard.press('Escape')
    await chat.finished()
    await expect.poll(() => server.seen.aborted).toBe(1)
  })

  test('a stop while the prompt is read leaves no half state', async ({ chat }) => {
    await chat.send('A slow prompt.')
    await expect(chat.answer).toContainText('Reading')
    await chat.stop.click()
    await expect(chat.answer.locator('.summary')).toHaveText('qwen3-30b-a3b · stopped by you')
    await chat.ask('Go on.')
    await expect(chat.answer).toContainText('You said: Go on.')
  })

  test('an answer that a reload cuts off keeps what had arrived', async ({ chat, page, server }) => {
    await chat.send('Talk forever.')
    await expect(chat.answer).toContainText('word 80')
    await page.reload()
    await expect(chat.answer).toContainText('word 20')
    await expect(chat.answer.locator('.summary')).toContainText('interrupted')
    await expect.poll(() => server.seen.aborted).toBe(1)
  })

  test('an error before the stream is shown, and can be tried again', async ({ chat, server }) => {
    await chat.ask('This is too long.')
    await expect(chat.answer.locator('.error')).toContainText('The prompt has 40,000 tokens, the context 32,768.')
    await chat.answer.getByRole('button', { name: 'Try again' }).click()
    await expect.poll(() => server.seen.bodies.length).toBe(2)
    expect(server.seen.bodies[1]).toEqual(server.seen.bodies[0])
  })

  test('an error in the stream is shown below what had arrived', async ({ chat }) => {
    await chat.ask('Please break after some words.')
    await expect(chat.answer.locator('.markdown')).toHaveText('Half of an')
    await expect(chat.answer.locator('.error')).toContainText('The server is stopping.')
    await expect(chat.answer.locator('.summary')).toContainText('broken off')
  })

  test('an answer that never began is tried again without ado', async ({ chat, page }) => {
    await chat.ask('This is too long.')
    await chat.answer.getByRole('button', { name: 'Try again' }).click()
    await chat.finished()
    await expect(page.getByRole('button', { name: 'Undo' })).toBeHidden()
  })

  test('a connection that breaks is an error, not an end', async ({ chat }) => {
    await chat.ask('Be cut off.')
    await expect(chat.answer.locator('.markdown')).toHaveText(/^Half/)
    await expect(chat.answer.locator('.error')).toContainText('The connection broke before the answer was complete.')
  })

  test('a full queue says when to come back', async ({ chat }) => {
    await chat.ask('Is the queue full?')
    await expect(chat.answer.locator('.error')).toContainText('The queue is full. It asks to wait for 3 s.')
  })

  test('a server that is gone is said, and found again', async ({ chat, page }) => {
    await chat.ask('Hello.')
    await page.route('**/*', (route) => route.abort())
    await chat.ask('Are you there?')
    await expect(chat.answer.locator('.error')).toContainText('The server does not answer.')
    await expect(page.getByText('Trying again…')).toBeVisible()
    await page.unroute('**/*')
    await expect(page.getByText('Trying again…')).toBeHidden()
    await chat.answer.getByRole('button', { name: 'Try again' }).click()
    await expect(chat.answer).toContainText('You said: Are you there?')
  })

  test('thinking is folded and timed', async ({ chat }) => {
    await chat.send('Think about it.')
    await expect(chat.answer.getByText(/^Thinking… \d/)).toBeVisible()
    await chat.finished()
    await expect(chat.answer.getByText(/^Thought for [\d.]+ s$/)).toBeVisible()
    const thought = chat.answer.getByText('First I look at it from one side')
    await expect(thought).toBeHidden()
    await chat.answer.getByText(/^Thought for/).click()
    await expect(thought).toBeVisible()
    await expect(chat.answer.locator('.markdown')).toHaveText('You said: Think about it.')
  })

  test('thinking can be switched off', async ({ chat, page, server }) => {
    await page.getByRole('button', { name: 'Think first' }).click()
    await chat.ask('Hello.')
    expect(server.seen.bodies[0].chat_template_kwargs).toEqual({ enable_thinking: false })
  })

  test('an answer is regenerated in its place, and the old one can be had back', async ({ chat, page, server }) => {
    await chat.ask('Hello.')
    await chat.ask('Count.')
    await chat.answer.getByRole('button', { name: 'Regenerate' }).click()
    await expect.poll(() => server.seen.bodies.length).toBe(3)
    await chat.finished()
    await expect(chat.answers).toHaveCount(2)
    expect(server.seen.bodies[2]).toEqual(server.seen.bodies[1])
    await chat.answers.first().hover()
    await chat.answers.first().getByRole('button', { name: 'Regenerate' }).click()
    await chat.finished()
    await expect(chat.answers).toHaveCount(1)
    await page.getByRole('button', { name: 'Undo' }).click()
    await expect(chat.answers).toHaveCount(2)
    await expect(chat.answer).toContainText('This is answer number 3.')
  })

  test('an edited message is sent in place of the old one and what followed', async ({ chat, page, server }) => {
    await chat.ask('One.')
    await chat.ask('Two.')
    await chat.questions.first().hover()
    await chat.questions.first().getByRole('button', { name: 'Edit message' }).click()
    const box = page.getByRole('textbox', { name: 'Edit message' })
    await expect(box).toBeFocused()
    await box.fill('Another.')
    await box.press('Enter')
    await chat.finished()
    await expect(chat.said).toHaveText(['Another.'])
    await expect(chat.answer).toContainText('You said: Another.')
    expect(server.seen.bodies.at(-1).messages).toEqual([{ role: 'user', content: 'Another.' }])
    await page.getByRole('button', { name: 'Undo' }).click()
    await expect(chat.said).toHaveText(['One.', 'Two.'])
  })

  test('an edit that is given up changes nothing', async ({ chat, page }) => {
    await chat.ask('One.')
    await chat.questions.first().hover()
    await chat.questions.first().getByRole('button', { name: 'Edit message' }).click()
    await page.getByRole('textbox', { name: 'Edit message' }).fill('Another.')
    await page.keyboard.press('Escape')
    await expect(chat.said).toHaveText(['One.'])
    await expect(page.getByRole('button', { name: 'Edit message' })).toBeFocused()
  })

  test('several answers arrive at once, each in its conversation', async ({ chat, page }) => {
    await chat.send('Talk forever.')
    await expect(chat.answer).toContainText('word 3')
    await page.keyboard.press('Control+k')
    await chat.ask('Hello there.')
    await expect(chat.answers).toHaveCount(1)
    await expect(chat.answer).toContainText('You said: Hello there.')
    await expect(page.getByRole('img', { name: 'an answer is arriving' })).toHaveCount(1)
    await chat.entries.filter({ hasText: 'Talk forever.' }).click()
    await expect(chat.answer).toContainText('word 30')
    await chat.stop.click()
    await page.goBack()
    await expect(chat.answer).toContainText('You said: Hello there.')
  })

  test('conversations are renamed and deleted, and deleting is undone', async ({ chat, page }) => {
    await chat.ask('The first message\nhas two lines.')
    await expect(chat.entries).toHaveText(['The first message'])
    await chat.entries.first().hover()
    await page.getByRole('button', { name: 'Rename' }).click()
    await page.getByRole('textbox', { name: 'New name' }).fill('Greetings')
    await page.keyboard.press('Enter')
    await expect(chat.entries).toHaveText(['Greetings'])
    await chat.entries.first().hover()
    await page.getByRole('button', { name: 'Delete “Greetings”' }).click()
    await expect(chat.entries).toHaveCount(0)
    await expect(chat.questions).toHaveCount(0)
    await page.getByRole('button', { name: 'Undo' }).click()
    await expect(chat.entries).toHaveText(['Greetings'])
    await page.reload()
    await expect(chat.entries).toHaveText(['Greetings'])
    await expect(chat.questions).toHaveCount(1)
  })

  test('what is exported can be imported in another browser', async ({ chat, page, browser, server }) => {
    await chat.ask('Take me along.')
    await page.getByRole('button', { name: 'Settings' }).click()
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Export all' }).click()])
    const other = await (await browser.newContext()).newPage()
    await other.goto(server.url)
    await other.locator('#import-file').setInputFiles(await download.path())
    await other.locator('#conversation-list a').click()
    await expect(other.getByRole('article', { name: 'Answer' })).toContainText('You said: Take me along.')
    const broken = { format: 'apr-conversations', version: 1, conversations: [{ id: 'a', title: 't', created: 1, updated: 1, messages: [{ role: 'system', content: '' }] }] }
    await other.locator('#import-file').setInputFiles({ name: 'x.json', mimeType: 'application/json', buffer: Buffer.from(JSON.stringify(broken)) })
    await expect(other.getByText('Conversation 1, message 1: `role` is neither user nor assistant.').first()).toBeVisible()
    await other.context().close()
  })

  test('a full storage is said', async ({ chat, page }) => {
    await page.evaluate(() => {
      IDBObjectStore.prototype.put = () => {
        throw new DOMException('full', 'QuotaExceededError')
      }
    })
    await chat.ask('Hello.')
    await expect(page.getByText('This browser’s storage is full', { exact: false }).first()).toBeVisible()
    await expect(chat.answer).toContainText('You said: Hello.')
  })

  test('settings reach the request, wrong ones do not', async ({ chat, page, server }) => {
    await page.getByRole('button', { name: 'Settings' }).click()
    await expect(page.getByLabel('Temperature')).toHaveAttribute('placeholder', '0.7')
    await page.getByLabel('System prompt').fill('Be brief.')
    await page.getByLabel('Temperature').fill('0.25')
    await page.getByLabel('Top p').fill('1.5')
    await page.getByRole('button', { name: 'Save' }).click()
    await expect(page.getByText('Top p is a number from 0 to 1.')).toBeVisible()
    await page.getByLabel('Top p').fill('')
    await page.getByLabel('Seed').fill('42')
    await page.getByRole('button', { name: 'Save' }).click()
    await page.reload()
    await chat.ask('Hello.')
    expect(server.seen.bodies[0]).toMatchObject({ temperature: 0.25, seed: 42, messages: [{ role: 'system', content: 'Be brief.' }, { role: 'user', content: 'Hello.' }] })
    expect(server.seen.bodies[0]).not.toHaveProperty('top_p')
  })

  test('new text is followed only by those who are at its end', async ({ chat, page }) => {
    const fromEnd = () => page.locator('#thread').evaluate((it) => it.scrollHeight - it.scrollTop - it.clientHeight)
    await chat.ask('Write many lines.')
    expect(await fromEnd()).toBeLessThan(2)
    await chat.send('Again many lines.')
    await expect(chat.answer).toContainText('Paragraph 5 of many.')
    await page.locator('#thread').hover()
    await page.mouse.wheel(0, -20)
    await expect.poll(fromEnd).toBeGreaterThan(300)
    await chat.finished()
    expect(await fromEnd()).toBeGreaterThan(1000)
    await page.getByRole('button', { name: 'Go to the latest message' }).click()
    await expect.poll(fromEnd).toBeLessThan(2)
  })

  test('a change in one tab shows in the other', async ({ chat, context, server }) => {
    const other = await context.newPage()
    await other.goto(server.url)
    await chat.ask('Hello.')
    await other.locator('#conversation-list a').click()
    await expect(other.getByRole('article', { name: 'Answer' })).toContainText('You said: Hello.')
  })
})
