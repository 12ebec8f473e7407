"""Microsoft, through msal: a person in the browser, a person with a code, or the app alone."""
