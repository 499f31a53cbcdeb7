package export

// DirError is how a folder's errors are sorted.
var DirError = dirError
