"""What `kubeling kustomize FOLDER` and `-k FOLDER` build: kustomize's language, as far as nearly everybody uses it.

A folder with a kustomization file is a list of resources and of changes to them. :mod:`.target` adds up what the folders and components below it give, lets generators
(:mod:`.generators`) add to it, and applies the changes in kustomize's fixed order: patches (:mod:`.patches`), then :mod:`.transformers`. In the end generated names get
their hashes, and whoever named an object by a name that it had on the way is told the one that it has now (:mod:`.references`).

All of it works on objects in memory; only :mod:`.loading` reads files, and nothing is fetched from elsewhere.
"""
