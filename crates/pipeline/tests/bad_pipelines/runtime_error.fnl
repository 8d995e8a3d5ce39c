(local ci (require :quire.ci))
(local options {})
(ci.image (.. "rust:" options.version.minor))
