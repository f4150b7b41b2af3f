// Markdown in answers: shown as it is meant, and inert whatever it says.

import { expect, realServer, test } from './fixture.js'

test.skip(realServer !== null, 'needs the scenarios of the mock server')

test('Markdown and code are shown as they are meant', async ({ chat }) => {
  await chat.ask('Markdown, please.')
  const text = chat.answer.locator('.markdown')
  await expect(text.getByRole('heading', { name: 'A title' })).toBeVisible()
  await expect(text.locator('em')).toHaveText('emphasis')
  await expect(text.locator('strong')).toHaveText('strength')
  await expect(text).toContainText('AT&T is written')
  await expect(text.getByRole('link', { name: 'a link' })).toHaveAttribute('href', 'https://example.org/page')
  await expect(text.locator('ol > li')).toHaveCount(2)
  await expect(text.locator('ol > li ul > li')).toHaveText(['inner'])
  await expect(text.getByRole('checkbox', { name: 'Done', exact: true })).toBeChecked()
  await expect(text.locator('blockquote')).toHaveText('quoted')
  await expect(text.getByRole('cell', { name: '10' })).toHaveCSS('text-align', 'right')
  await expect(text.locator('p').last()).toHaveText('The end,\nin two lines.', { useInnerText: true })
  await expect(text.locator('.code-head')).toContainText('rust')
  await expect(text.locator('.hl-keyword').first()).toHaveText('fn')
  await expect(text.locator('pre')).toHaveText('fn main() {\n    println!("hello"); // said\n}', { useInnerText: true })
})

test('code is copied by its button, also where the clipboard is refused', async ({ chat, page, context }) => {
  await context.grantPermissions(['clipboard-read', 'clipboard-write'])
  await chat.ask('Markdown, please.')
  const pasted = () => page.evaluate(() => navigator.clipboard.readText())
  await page.getByRole('button', { name: 'Copy code' }).click()
  await expect.poll(pasted).toBe('fn main() {\n    println!("hello"); // said\n}')
  await page.evaluate(() => {
    navigator.clipboard.writeText = () => Promise.reject(new Error('refused'))
  })
  await page.getByRole('button', { name: 'Copy message' }).click()
  await expect.poll(pasted).toBe('Markdown, please.')
})

test('hostile Markdown runs nothing, fetches nothing and breaks nothing', async ({ chat, page }) => {
  await chat.ask('Be hostile.')
  const text = chat.answer.locator('.markdown')
  await expect(text).toContainText("<script>alert('script')</script>")
  await expect(text).toContainText('</div></main></body> still here')
  await expect(text.locator('script, img, iframe, svg:not(.icon), style, form, meta, link, base')).toHaveCount(0)
  const attributes = await text.evaluate((root) => [...root.querySelectorAll('*')].flatMap((node) => node.getAttributeNames().filter((name) => name.startsWith('on'))))
  expect(attributes).toEqual([])
  const addresses = await text.locator('a').evaluateAll((links) => links.map((link) => link.protocol))
  expect(new Set(addresses)).toEqual(new Set(['https:']))
  await expect(text.getByRole('link', { name: 'Image: picture' })).toHaveAttribute('href', 'https://outside.example/b.png')
  for (const link of await text.locator('a').all()) await link.hover()
  await expect(chat.prompt).toBeVisible()
  await chat.ask('And now?')
  await expect(chat.answer).toContainText('You said: And now?')
  await page.reload()
  await expect(chat.answers).toHaveCount(2)
})

test('nesting beyond all reason is shown as it is written', async ({ chat }) => {
  await chat.ask('Be nested.')
  await expect(chat.answer).toContainText('> deep')
})

test('text shown piece by piece equals text shown at once', async ({ chat, page, server }) => {
  const { MARKDOWN, HOSTILE, RECIPE } = await import('./texts.js')
  const definitions = 'See [a] and [b].\n\n- one\n\n- two\n\n[a]: https://example.org/a\n\n[b]: https://example.org/b\n'
  for (const text of [MARKDOWN, HOSTILE, RECIPE, definitions]) {
    const [pieces, once] = await page.evaluate(
      async ([address, text]) => {
        const { Markdown } = await import(address)
        const shown = async (lengths) => {
          const root = document.createElement('div')
          const markdown = new Markdown(root)
          for (const length of lengths) markdown.show(text.slice(0, length), length === text.length)
          // Colours come later, when they come.
          await new Promise((wake) => setTimeout(wake, 300))
          return root.outerHTML
        }
        return [await shown(Array.from(text, (_, at) => at + 1)), await shown([text.length])]
      },
      [`${server.url}assets/js/markdown.js`, text],
    )
    expect(pieces).toBe(once)
  }
})

test('events are read alike wherever the bytes are cut', async ({ chat, page, server }) => {
  const stream = ': ping\r\n\r\ndata: {"a":"é😀"}\n\ndata: one\ndata:two\n\nevent: x\nid: 1\n\ndata: [DONE]\r\n\r\ndata: cut off'
  const results = await page.evaluate(
    async ([address, stream]) => {
      const { events } = await import(address)
      const bytes = new TextEncoder().encode(stream)
      const read = async (parts) => {
        const body = new ReadableStream({
          start(controller) {
            for (const part of parts) controller.enqueue(part)
            controller.close()
          },
        })
        const found = []
        for await (const data of events(body)) found.push(data)
        return JSON.stringify(found)
      }
      const found = new Set([await read(Array.from(bytes, (byte) => Uint8Array.of(byte)))])
      for (let at = 0; at <= bytes.length; at += 1) found.add(await read([bytes.slice(0, at), bytes.slice(at)]))
      return [...found]
    },
    [`${server.url}assets/js/stream.js`, stream],
  )
  expect(results).toEqual([JSON.stringify(['{"a":"é😀"}', 'one\ntwo', '[DONE]'])])
})
