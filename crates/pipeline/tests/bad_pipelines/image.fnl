(local ci (require :quire.ci))
(ci.image "not an image")
(ci.job :a [:quire/push] (fn [] nil))
