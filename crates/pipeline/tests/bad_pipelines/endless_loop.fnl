(local ci (require :quire.ci))
(while true (tostring 1))
