// Headless Chromium as the system has it; no browser is downloaded.
//
// `CHROMIUM` names another one. `APR_URL` names a running server to test in place of the mock:
// then only what any model can be asked is tested.

import { execFileSync } from 'node:child_process'
import { userInfo } from 'node:os'

import { defineConfig } from '@playwright/test'

const executablePath = process.env.CHROMIUM ?? execFileSync('sh', ['-c', 'command -v chromium || command -v chromium-browser || command -v google-chrome'], { encoding: 'utf8' }).trim()
// Chromium's sandbox refuses to work for root, which is what containers give.
const args = userInfo().uid === 0 ? ['--no-sandbox'] : []

export default defineConfig({
  testMatch: '*.spec.js',
  timeout: 30_000,
  workers: Number(process.env.WORKERS ?? 2),
  reporter: 'list',
  use: { launchOptions: { executablePath, args }, viewport: { width: 1280, height: 800 } },
})
