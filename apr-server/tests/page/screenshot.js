// Takes a picture of the page with a real answer on it:
//
//     APR_URL=http://127.0.0.1:8080/ node screenshot.js picture.png "What is a prefix cache?"
//
// `SCHEME=dark` for the other colours. Several messages make several turns.

import { chromium } from '@playwright/test'

import config from './playwright.config.js'

const [picture, ...messages] = process.argv.slice(2)
const browser = await chromium.launch(config.use.launchOptions)
const page = await browser.newPage({ viewport: { width: 1200, height: 800 }, deviceScaleFactor: 1.5, colorScheme: process.env.SCHEME ?? 'light' })
await page.goto(process.env.APR_URL)
for (const [at, message] of messages.entries()) {
  await page.fill('#prompt', message)
  await page.click('#send:enabled')
  await page.locator('.answer[aria-busy=false]').nth(at).waitFor({ timeout: 600_000 })
}
await page.screenshot({ path: picture })
await browser.close()
