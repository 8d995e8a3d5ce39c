(local ci (require :quire.ci))
(ci.job :a [:a] (fn [] nil))
(ci.job :b [:a] (fn [] nil))
