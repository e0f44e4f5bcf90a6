"""Updates over the air: a bundle in, on the publisher's side, and a better slot out, on the device's.

    repository   a bundle to signed metadata, releases and chunks: plain files for any web server
    client       what a device is told by them, believed only where The Update Framework says so
    assembly     a bundle from the chunks that are here and those that are fetched
    updater      looks now and then, and has what it found tried, kept or taken back

Knows no models: what is in a bundle, and whether it works, is found out by others.
"""
