package filewatch

// Set is the former name of Watch.
func (f *Files) Set(paths []string) { f.Watch(paths) }

// Look is the former name of Check.
func (f *Files) Look() { f.Check() }
