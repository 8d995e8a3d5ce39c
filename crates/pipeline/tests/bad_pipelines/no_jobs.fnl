(local ci (require :quire.ci))
